//! Names by DNS, asked by the resolvers that languages bring along: Go's own, Node's c-ares, and Java.

use std::fs;

use mesh_netns_tests::{
    Instance, Outcome, World, isolated, run,
    traffic::{Answer, Server},
};

use crate::dns::{RESOLVER, lab, machine_list, start_another_server};

/// Runs a program with this resolv.conf, and with neither a hosts file nor an nsswitch.conf.
fn with_list(instance: &Instance, list: &str, program: &[&str]) -> Outcome {
    fs::write("/run/resolv-clients", list).expect("our own /run");
    let script = "mount --bind /run/resolv-clients /etc/resolv.conf && mount --bind /dev/null /etc/hosts && \
                  mount --bind /dev/null /etc/nsswitch.conf && exec \"$@\"";
    let mut command = instance.namespace.command("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).args(program);
    run(command)
}

/// Prints what c-ares says to each question, and at last what the C library says.
const ASK_C_ARES: &str = "
const dns = require('dns');
const say = (promise) => promise.then((found) => JSON.stringify(found), (error) => error.code).then(console.log);
(async () => {
    const { resolve4, resolve6, resolveSrv, reverse, lookup } = dns.promises;
    await say(resolve4('my-db.warp'));
    await say(resolve4('all.mysql').then((all) => all.sort()));
    await say(resolve6('my-db.warp'));
    await say(resolve4('none.warp'));
    await say(resolveSrv('_port._tcp.my-db.warp'));
    await say(reverse(process.argv[1]));
    await say(lookup('grpc.api.warp', { family: 4 }));
    await say(lookup('example.com', { family: 4 }));
})();
";

#[test]
fn go_java_and_c_ares_find_the_names_they_may_call() {
    isolated(|| {
        let world = World::new();
        let lab = lab(&world, 2);
        let (db, grpc) = (lab.dbs[0].service_address, lab.grpc.service_address);
        machine_list();
        start_another_server(&lab.app);
        let list = format!(
            "nameserver {RESOLVER}\nnameserver 127.0.0.1\nsearch shop.warp warp\noptions timeout:15 attempts:1\n"
        );
        let with_list = |program: &[&str]| with_list(&lab.app, &list, program);

        let mut all = [lab.dbs[0].address.to_string(), lab.dbs[1].address.to_string()];
        all.sort_unstable();
        let said = with_list(&["node", "-e", ASK_C_ARES, &db.to_string()]).done().stdout;
        let expected = format!(
            "[\"{db}\"]\n[\"{}\",\"{}\"]\nENODATA\nENOTFOUND\n\
             [{{\"name\":\"my-db.shop.warp\",\"port\":5432,\"priority\":0,\"weight\":1}}]\n[\"my-db.shop.warp\"]\n\
             {{\"address\":\"{grpc}\",\"family\":4}}\n{{\"address\":\"192.0.2.7\",\"family\":4}}\n",
            all[0], all[1]
        );
        assert_eq!(said, expected);

        // Both connect to a server that speaks neither HTTP nor TLS: that it is reached counts.
        let servers = [&lab.dbs[0], &lab.dbs[1]].map(|db| db.serve(5432, Answer::Greeting("neither".to_owned())));
        let accepted = || servers.iter().map(Server::accepted).sum::<usize>();
        let go = |host: &str| {
            let url = format!("http://{host}:5432");
            with_list(&["env", "GODEBUG=netdns=go", "promtool", "query", "instant", &url, "up"]).stderr
        };
        let java = |host: &str| with_list(&["keytool", "-printcert", "-sslserver", &format!("{host}:5432")]).stdout;
        for name in ["my-db.warp", "mysql", "all.my-db", "i-1.warp"] {
            for (language, ask) in [("Go", &go as &dyn Fn(&str) -> String), ("Java", &java)] {
                let before = accepted();
                let said = ask(name);
                assert!(accepted() > before, "{language} reaches {name}: {said}");
            }
        }
        // What isn't ours is asked elsewhere.
        assert!(go("none.warp").contains("no such host"));
        assert!(go("example.com").contains("dial tcp 192.0.2.7:5432"));
    });
}
