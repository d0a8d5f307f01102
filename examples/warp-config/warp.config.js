// A service that is declared by its own configuration file. It declares this one service and leaves the others of the
// deployment alone:  mesh-coord apply examples/warp-config/warp.config.js --deployment shop
// The file is read, not run: it must be a literal.
module.exports = {
    container: "worker",
    deployment: { port: 9000 },
    ist: [
        // Services that are named here may be declared later.
        { service: "db", variables: ["DATABASE_HOST"], hostnames: ["postgres.local"] },
        { service: "cache" },
    ],
};
