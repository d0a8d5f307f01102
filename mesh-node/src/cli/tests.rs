use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("mesh-node").chain(line.split_whitespace()))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_reference_page_is_what_the_definitions_say() {
    mesh_docs_check::reference("docs/reference/mesh-node.md", Cli::command());
}

#[test]
fn the_documented_commands_are_understood() {
    for line in [
        "join https://c:7443 TOKEN --name a --provider aws --state /s --listen 0 --endpoint 192.0.2.1:1 --endpoint [2001:db8::1]:2",
        "join https://c:7443 - --replace --no-tun-gso --no-udp-gso --no-udp-gro",
        "join --state /s",
        "up @token --name a --provider aws --listen 0 --endpoint auto --map-port --proxy none --lanes 2 --no-relay --replace --json",
        "up https://c:7443 - --dry-run",
        "up --undo --state /s",
        "attach shop/db --netns /run/netns/x --client",
        "attach shop/db --pid 7 --hosts /x --resolv /y --release v42 --json",
        "detach i-7",
        "detach --netns /run/netns/x",
        "drain i-7 --json",
        "undrain i-7",
        "leave --state /s --json",
        "run shop/db --client --release 1f3a --netns /run/netns/x -- ls -l",
        "env shop/db --format docker",
        "hosts shop/db",
        "status --json --state /s",
        "status --check --json",
        "metrics",
        "join --metrics 127.0.0.1:9744",
        "join --metrics no",
        "join --lanes 8",
        "denied",
        "netcheck --json",
        "ping b -c 1 --json",
        "ping shop/db",
        "bugreport --output - --json",
        "why api/web shop/db 5432",
        "wait shop/db",
        "wait shop/db --port 5432 --from api/web --timeout 5m --json",
        "hook createRuntime --state /s",
        "hook precreate",
        "setup docker --dry-run",
        "setup podman --undo --state /s",
        "hook poststop",
    ] {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for line in [
        "attach shop/db",
        "attach shop/db --netns /x --pid 7",
        "attach shop --netns /x",
        "attach shop/db --pid 0",
        "detach",
        "detach 7",
        "detach i-7 --netns /x",
        "drain",
        "drain --netns /x",
        "leave i-7",
        "hook prestart",
        "setup lxc",
        "run shop/db",
        "why api/web shop/db 0",
        "why api/web shop/db 65536",
        "env shop/db --format xml",
        "join http://c T",
        "join https://c T --endpoint c",
        "join https://c T --endpoint auto:0",
        "join https://c T --endpoint 224.0.0.1:80",
        "join https://c T --endpoint 192.0.2.1:0",
        "join https://c T --endpoint [::ffff:127.0.0.1]:5",
        "join https://c T --endpoint 169.254.169.254:80",
        "join https://c T --endpoint [64:ff9b::7f00:1]:5",
        "up --undo @token",
        "up --undo --name a",
        "up --undo --lanes 2",
        "join --lanes 0",
        "join --lanes 9",
        "leave-me-alone",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn arguments_after_the_command_of_run_belong_to_it() {
    let command = |line: &str| match parse(line).unwrap() {
        Cli { command: Command::Run(run), global } => (run.command.join(" ".as_ref()), run.client, global.json),
        other => panic!("{other:?}"),
    };
    assert_eq!(command("run shop/db -- ls --json --client"), ("ls --json --client".into(), false, false));
    assert_eq!(command("run shop/db ls --json -- x"), ("ls --json -- x".into(), false, false));
    assert_eq!(command("run shop/db --client ls -l"), ("ls -l".into(), true, false));
    assert_eq!(command("run --client shop/db -- --odd"), ("--odd".into(), true, false));
}

#[test]
fn a_token_is_in_no_debug_output() {
    let cli = parse("join https://c:7443 mesh1.secret").unwrap();
    assert!(!format!("{cli:?}").contains("secret"));
}
