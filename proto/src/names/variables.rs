//! Which environment variables may hold a service's address: names that shells accept, and whose values no program
//! interprets.

use super::{encode::is_identifier, forms::PREFIX};

/// Why a name is refused for a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadVariable {
    /// It doesn't have the form of POSIX.1-2024 §3.216.
    #[error("is not a variable's name: use letters, digits and `_`, with no digit first")]
    Form,
    /// A program takes its value for code, for a place of code or settings, or for a trust anchor.
    #[error(
        "is a variable that {0} takes for code or settings to load, or for where to send everything: choose another name"
    )]
    Loads(&'static str),
}

/// Variables whose values load or interpret code, name places of code, settings or trust anchors, or redirect traffic
/// that isn't for the mesh. Each has its source. `*` at the end matches any characters.
const LOADING: &[(&str, &str)] = &[
    // Loaders and C libraries.
    ("LD_*", "the dynamic loader (ld.so(8))"),
    ("_RLD*", "the dynamic loader (rld(5))"),
    ("LIBPATH", "the dynamic loader (AIX, ld(1))"),
    ("SHLIB_PATH", "the dynamic loader (HP-UX, dld.so(5))"),
    ("DYLD_*", "the dynamic loader (dyld(1))"),
    ("GLIBC_TUNABLES", "the GNU C library (ld.so(8))"),
    ("GCONV_PATH", "the GNU C library (iconv(1))"),
    ("GETCONF_DIR", "the GNU C library (getconf(1))"),
    ("LOCPATH", "the GNU C library (locale(7))"),
    ("NLSPATH", "the C library (catopen(3))"),
    ("LANGUAGE", "gettext (gettext manual, «The LANGUAGE variable»)"),
    ("MALLOC_*", "the GNU C library (mallopt(3))"),
    ("HOSTALIASES", "the resolver (hostname(7))"),
    ("LOCALDOMAIN", "the resolver (resolv.conf(5))"),
    ("RES_OPTIONS", "the resolver (resolv.conf(5))"),
    ("RESOLV_*", "the resolver (host.conf(5))"),
    ("TZ", "the C library (tzset(3))"),
    ("TZDIR", "the C library (tzset(3))"),
    ("TMPDIR", "most programs (POSIX.1-2024 §8.3)"),
    ("MUSL_LOCPATH", "the musl C library (its manual, «Environment variables»)"),
    ("ASAN_OPTIONS", "sanitizers (LLVM, «SanitizerCommonFlags»)"),
    // Shells.
    ("PATH", "every program that runs others (POSIX.1-2024 §8.3)"),
    ("ENV", "the shell (POSIX.1-2024, sh)"),
    ("BASH_*", "the shell (bash(1))"),
    ("BASHOPTS", "the shell (bash(1))"),
    ("SHELLOPTS", "the shell (bash(1))"),
    ("PROMPT_COMMAND", "the shell (bash(1))"),
    ("PS0", "the shell (bash(1))"),
    ("PS1", "the shell (POSIX.1-2024, sh)"),
    ("PS2", "the shell (POSIX.1-2024, sh)"),
    ("PS3", "the shell (bash(1))"),
    ("PS4", "the shell (POSIX.1-2024, sh)"),
    ("IFS", "the shell (POSIX.1-2024, sh)"),
    ("CDPATH", "the shell (POSIX.1-2024, cd)"),
    ("FPATH", "the shell (zshparam(1), ksh(1))"),
    ("ZDOTDIR", "the shell (zshparam(1))"),
    ("HISTFILE", "the shell (bash(1))"),
    ("INPUTRC", "readline (readline(3))"),
    ("HOME", "shells and most programs (POSIX.1-2024 §8.3)"),
    ("SHELL", "every program that runs a shell (POSIX.1-2024 §8.3)"),
    ("XDG_*", "desktop and command-line programs (XDG Base Directory Specification)"),
    ("EDITOR", "every program that runs an editor (environ(7))"),
    ("VISUAL", "every program that runs an editor (environ(7))"),
    ("PAGER", "every program that runs a pager (environ(7))"),
    ("MANPAGER", "man (man(1))"),
    ("BROWSER", "every program that runs a browser (environ(7))"),
    ("LESSOPEN", "less (less(1))"),
    ("LESSCLOSE", "less (less(1))"),
    ("LESS", "less (less(1))"),
    ("LESSKEY*", "less (less(1))"),
    ("SYSTEMD_PAGER", "systemd's programs (systemctl(1))"),
    ("FCEDIT", "the shell (POSIX.1-2024, fc)"),
    ("TERMINFO*", "terminal libraries (terminfo(5))"),
    ("TERMCAP", "terminal libraries (termcap(5))"),
    ("EXINIT", "editors (POSIX.1-2024, ex)"),
    ("VIMINIT", "editors (vim, «initialization»)"),
    ("EMACSLOADPATH", "Emacs (its manual, «General Variables»)"),
    // Interpreters.
    ("PYTHON*", "Python (python(1))"),
    ("PIP_*", "pip (its manual, «Configuration»)"),
    ("UV_*", "uv (its manual, «Environment variables»)"),
    ("DJANGO_SETTINGS_MODULE", "Django (its manual, «Settings»)"),
    ("GUNICORN_CMD_ARGS", "Gunicorn (its manual, «Settings»)"),
    ("PERL*", "Perl (perlrun(1))"),
    ("RUBYOPT", "Ruby (ruby(1))"),
    ("RUBYLIB", "Ruby (ruby(1))"),
    ("RUBYSHELL", "Ruby (ruby(1))"),
    ("GEM_*", "RubyGems (gem(1))"),
    ("JRUBY_OPTS", "JRuby (jruby(1))"),
    ("BUNDLE_*", "Bundler (bundle-config(1))"),
    ("NODE_OPTIONS", "Node.js (node(1))"),
    ("NODE_PATH", "Node.js (node(1))"),
    ("NODE_EXTRA_CA_CERTS", "Node.js (node(1))"),
    ("NODE_TLS_REJECT_UNAUTHORIZED", "Node.js (node(1))"),
    ("NODE_REPL_EXTERNAL_MODULE", "Node.js (node(1))"),
    ("NODE_ICU_DATA", "Node.js (node(1))"),
    ("NODE_V8_COVERAGE", "Node.js (node(1))"),
    ("ELECTRON_RUN_AS_NODE", "Electron (its manual, «Environment Variables»)"),
    ("NPM_CONFIG_*", "npm (npm-config(7))"),
    ("npm_config_*", "npm (npm-config(7))"),
    ("DENO_*", "Deno (its manual, «Environment variables»)"),
    ("BUN_OPTIONS", "Bun (its manual, «Environment variables»)"),
    ("PHPRC", "PHP (php(1))"),
    ("PHP_INI_SCAN_DIR", "PHP (its manual, «The configuration file»)"),
    ("COMPOSER_HOME", "Composer (its manual, «Environment variables»)"),
    ("LUA_*", "Lua (lua(1))"),
    ("TCLLIBPATH", "Tcl (tclvars(3))"),
    ("TCL_LIBRARY", "Tcl (tclvars(3))"),
    ("R_PROFILE*", "R (its manual, «Startup»)"),
    ("R_ENVIRON*", "R (its manual, «Startup»)"),
    ("R_LIBS*", "R (its manual, «libPaths»)"),
    ("JULIA_*", "Julia (its manual, «Environment Variables»)"),
    ("ERL_*", "Erlang (erl(1))"),
    ("ELIXIR_ERL_OPTIONS", "Elixir (elixir(1))"),
    ("GUILE_*", "Guile (guile(1))"),
    ("GHCRTS", "Haskell's runtime (GHC User's Guide, «Running a compiled program»)"),
    ("CAML_LD_LIBRARY_PATH", "OCaml (ocamlrun(1))"),
    ("PSModulePath", "PowerShell (its manual, «about_PSModulePath»)"),
    ("NIX_PATH", "Nix (its manual, «Common Environment Variables»)"),
    ("AWKPATH", "gawk (gawk(1))"),
    ("AWKLIBPATH", "gawk (gawk(1))"),
    // Virtual machines.
    ("JAVA_TOOL_OPTIONS", "Java (JVM Tool Interface, «JAVA_TOOL_OPTIONS»)"),
    ("_JAVA_OPTIONS", "Java (java(1))"),
    ("JDK_JAVA_OPTIONS", "Java (java(1))"),
    ("JAVA_OPTS", "Java's start scripts (such as catalina.sh)"),
    ("JAVA_HOME", "Java's start scripts (such as catalina.sh)"),
    ("CATALINA_*", "Tomcat (catalina.sh)"),
    ("CLASSPATH", "Java (java(1))"),
    ("MAVEN_OPTS", "Maven (mvn(1))"),
    ("ANT_OPTS", "Ant (its manual, «Running Apache Ant»)"),
    ("SBT_OPTS", "sbt (its manual)"),
    ("KAFKA_OPTS", "Kafka (kafka-run-class.sh)"),
    ("ES_JAVA_OPTS", "Elasticsearch (its manual, «Set JVM options»)"),
    ("HADOOP_OPTS", "Hadoop (hadoop-env.sh)"),
    ("GRADLE_OPTS", "Gradle (its manual, «Build environment»)"),
    ("DOTNET_*", ".NET (its manual, «Environment variables»)"),
    ("CORECLR_*", ".NET (its manual, «Profiling»)"),
    ("COR_PROFILER*", ".NET (its manual, «Profiling»)"),
    ("COMPlus_*", ".NET (its manual, «Environment variables»)"),
    ("ASPNETCORE_HOSTINGSTARTUPASSEMBLIES", ".NET (its manual, «Hosting startup»)"),
    ("GODEBUG", "Go (its documentation, «GODEBUG»)"),
    ("GOFLAGS", "Go (go help environment)"),
    ("GOPROXY", "Go (go help environment)"),
    ("GOTOOLCHAIN", "Go (go help environment)"),
    ("GOENV", "Go (go help environment)"),
    ("RUSTFLAGS", "Cargo (its manual, «Environment variables»)"),
    ("RUSTC*", "Cargo (its manual, «Environment variables»)"),
    ("CARGO_*", "Cargo (its manual, «Environment variables»)"),
    // Tools and libraries that run or load what a variable names.
    ("GIT_*", "Git (git(1))"),
    ("SSH_ASKPASS*", "OpenSSH (ssh(1))"),
    ("SSH_AUTH_SOCK", "OpenSSH (ssh(1))"),
    ("SUDO_ASKPASS", "sudo (sudo(8))"),
    ("SVN_SSH", "Subversion (its manual)"),
    ("CVS_RSH", "CVS (its manual)"),
    ("RSYNC_RSH", "rsync (rsync(1))"),
    ("RSYNC_CONNECT_PROG", "rsync (rsync(1))"),
    ("HGRCPATH", "Mercurial (hg(1))"),
    ("TAR_OPTIONS", "tar (GNU tar manual, «TAR_OPTIONS»)"),
    ("GREP_OPTIONS", "grep (GNU grep manual, «Environment Variables»)"),
    ("WGETRC", "wget (wget(1))"),
    ("APT_CONFIG", "APT (apt.conf(5))"),
    ("GNUPGHOME", "GnuPG (gpg(1))"),
    ("ANSIBLE_CONFIG", "Ansible (its manual, «Ansible Configuration Settings»)"),
    ("DOCKER_HOST", "Docker (its manual, «docker»)"),
    ("KUBECONFIG", "kubectl (its manual)"),
    ("CC", "make (POSIX.1-2024, make)"),
    ("CXX", "make (GNU make manual, «Implicit Variables»)"),
    ("LD", "make (GNU make manual, «Implicit Variables»)"),
    ("LIBRARY_PATH", "GCC (gcc(1))"),
    ("CPATH", "GCC (gcc(1))"),
    ("GCC_EXEC_PREFIX", "GCC (gcc(1))"),
    ("MAKEFLAGS", "make (POSIX.1-2024, make)"),
    ("MAKEFILES", "make (its manual, «MAKEFILES»)"),
    ("OPENSSL_*", "OpenSSL (openssl-env(7))"),
    ("SSL_CERT_FILE", "OpenSSL (openssl-env(7))"),
    ("SSL_CERT_DIR", "OpenSSL (openssl-env(7))"),
    ("SSLKEYLOGFILE", "TLS libraries (RFC 9850)"),
    ("CURL_HOME", "curl (curl(1))"),
    ("CURL_CA_BUNDLE", "curl (curl(1))"),
    ("REQUESTS_CA_BUNDLE", "Python's requests (its manual, «Advanced usage»)"),
    ("GTK_MODULES", "GTK (its manual, «Running GTK applications»)"),
    ("GTK_PATH", "GTK (its manual, «Running GTK applications»)"),
    ("GIO_MODULE_DIR", "GIO (its manual, «Running GIO applications»)"),
    ("GST_PLUGIN_PATH*", "GStreamer (its manual, «Running GStreamer Applications»)"),
    ("GDK_PIXBUF_MODULE*", "GdkPixbuf (gdk-pixbuf-query-loaders(1))"),
    ("VK_ICD_FILENAMES", "Vulkan (its loader's manual)"),
    ("LIBGL_DRIVERS_PATH", "Mesa (its manual, «Environment Variables»)"),
    ("MAGICK_*", "ImageMagick (its manual, «Resources»)"),
    ("KRB5_CONFIG", "Kerberos (kerberos(7))"),
    ("SASL_PATH", "Cyrus SASL (its manual)"),
    ("PGSYSCONFDIR", "PostgreSQL's library (its manual, «Environment Variables»)"),
    ("PGSERVICEFILE", "PostgreSQL's library (its manual, «Environment Variables»)"),
    ("MYSQL_HOME", "MySQL's library (its manual, «Environment variables»)"),
    ("QT_*", "Qt (its manual, «QPA»)"),
    ("LIBMYSQL_*", "MySQL's library (its manual, «Environment variables»)"),
    // Our own: a mesh program in the container would take the service for its coordinator.
    ("MESH_*", "mesh (mesh-coord and mesh-node)"),
    // Proxies, which get traffic that is for other destinations.
    ("http_proxy", "HTTP clients (curl(1))"),
    ("HTTP_PROXY", "HTTP clients (Go, net/http, «ProxyFromEnvironment»)"),
    ("https_proxy", "HTTP clients (curl(1))"),
    ("HTTPS_PROXY", "HTTP clients (curl(1))"),
    ("ftp_proxy", "HTTP clients (curl(1))"),
    ("FTP_PROXY", "HTTP clients (curl(1))"),
    ("all_proxy", "HTTP clients (curl(1))"),
    ("ALL_PROXY", "HTTP clients (curl(1))"),
    ("Http_Proxy", "HTTP clients"),
    ("socks_proxy", "SOCKS clients"),
    ("SOCKS_SERVER", "SOCKS clients"),
];

/// Checks that a variable with this name may hold a service's address.
///
/// # Errors
/// If shells don't accept it, or programs interpret its value.
pub fn check_variable(name: &str) -> Result<(), BadVariable> {
    if !is_identifier(name) {
        return Err(BadVariable::Form);
    }
    let is = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    match LOADING.iter().find(|(pattern, _)| is(pattern)) {
        Some((_, source)) => Err(BadVariable::Loads(source)),
        None => Ok(()),
    }
}

/// The same for a name that may also be made from a service's name. Such a name begins with `WARP_IST_`, and shells
/// need not accept it.
///
/// # Errors
/// As [`check_variable`].
pub fn check_given_variable(name: &str) -> Result<(), BadVariable> {
    let made = name.strip_prefix(PREFIX).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
    if made { Ok(()) } else { check_variable(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_load_or_interpret_is_no_variable_of_a_service() {
        for bad in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "PATH",
            "BASH_ENV",
            "ENV",
            "NODE_OPTIONS",
            "PYTHONSTARTUP",
            "PYTHONPATH",
            "PERL5LIB",
            "PERL5OPT",
            "RUBYOPT",
            "RUBYLIB",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "GCONV_PATH",
            "IFS",
            "PS4",
            "SHELLOPTS",
            "PROMPT_COMMAND",
            "GIT_SSH_COMMAND",
            "DOTNET_STARTUP_HOOKS",
            "CORECLR_PROFILER",
            "HOME",
            "LOCPATH",
            "GLIBC_TUNABLES",
            "MALLOC_CHECK_",
            "http_proxy",
            "HTTPS_PROXY",
            "socks_proxy",
            "MESH_TOKEN",
            "MESH_COORD_URL",
            "MESH_NODE_STATE",
            "TAR_OPTIONS",
            "PIP_INDEX_URL",
            "GOPROXY",
            "CC",
            "LESSKEYIN",
            "DOCKER_HOST",
            "KUBECONFIG",
            "LIBRARY_PATH",
            "ANT_OPTS",
            "PSModulePath",
        ] {
            assert!(matches!(check_variable(bad), Err(BadVariable::Loads(_))), "{bad}");
        }
    }

    #[test]
    fn ordinary_variables_are_taken() {
        for good in [
            "MY_SQL_SERVICE",
            "ANOTHER_VAR",
            "DATABASE_HOST",
            "PGHOST",
            "REDIS_URL",
            "_x",
            "a1",
            "PATHS",
            "HOMEPAGE",
            "NODE",
            "PORT",
            "MESH",
            "LESSONS",
            "CCTV",
            "LDAP",
        ] {
            assert_eq!(check_variable(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A=B", "A\nB", "é"] {
            assert_eq!(check_variable(bad), Err(BadVariable::Form), "{bad:?}");
        }
    }
}
