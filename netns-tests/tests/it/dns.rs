//! Names by DNS, asked by the clients that programs use: dig, drill, glibc and musl.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use mesh_netns_tests::{
    Coordinator, Daemon, Instance, Outcome, Runner, Stack, World, isolated, run, traffic, traffic::Answer, wait,
};

use crate::common::{declare, is_refused, reaches};

/// The last address but one of the range.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.\"my db\"]\naliases = [\"mysql\"]\nport = 5432\n";
const API: &str = "deployment = \"api\"\n[services.grpc]\n";

/// `getaddrinfo` for each argument, as the C library does it: the addresses, or what it says.
const LOOK_UP: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *found = 0, *next;
        int error = getaddrinfo(names[i], "80", &hints, &found);
        printf("%s", names[i]);
        if (error) printf(" %s", error == EAI_NONAME ? "none" : gai_strerror(error));
        for (next = found; next; next = next->ai_next) {
            char text[INET6_ADDRSTRLEN];
            struct sockaddr_in *v4 = (struct sockaddr_in *) next->ai_addr;
            printf(" %s", inet_ntop(next->ai_family, &v4->sin_addr, text, sizeof text));
        }
        printf("\n");
    }
}
"#;

pub(crate) struct Lab {
    pub(crate) coordinator: Coordinator,
    ovh: Runner,
    aws: Runner,
    pub(crate) app: Instance,
    /// Instances of `shop/my db`, on ovh but for the last one, which is on the caller's runner.
    pub(crate) dbs: Vec<Instance>,
    pub(crate) grpc: Instance,
}

pub(crate) fn lab(world: &World, dbs: usize) -> Lab {
    let coordinator = world.coordinator(&[]);
    declare(&coordinator, &[SHOP, API]);
    coordinator.command(&["trust", "shop", "--app", "api"]).done();
    let ovh = world.runner(&coordinator, "ovh", Stack::Dual);
    let aws = world.runner(&coordinator, "aws", Stack::Dual);
    let mut all: Vec<Instance> = (1..dbs).map(|_| ovh.attach("shop/my db")).collect();
    all.push(aws.attach("shop/my db"));
    let grpc = ovh.attach("api/grpc");
    let app = aws.attach("shop/app");
    Lab { coordinator, ovh, aws, app, dbs: all, grpc }
}

impl Lab {
    /// What `dig` says; an answer of code and records by `+short` is just the records.
    fn dig(&self, arguments: &[&str]) -> Outcome {
        ask(&self.app, "dig", &[&["@100.127.255.254", "+time=20", "+tries=1"], arguments].concat()).done()
    }

    fn short(&self, arguments: &[&str]) -> Vec<String> {
        let outcome = self.dig(&[&["+short"], arguments].concat());
        outcome.stdout.lines().map(str::to_owned).collect()
    }
}

/// The machine's resolv.conf, which may lead into the real /run.
pub(crate) fn machine_list() -> String {
    let at = Path::new("/etc/resolv.conf");
    if !at.exists() {
        let leads_to = fs::read_link(at).unwrap_or_else(|_| at.to_owned());
        let target = Path::new("/etc").join(leads_to);
        fs::create_dir_all(target.parent().expect("a directory")).expect("our own /run");
        fs::write(target, "nameserver 192.0.2.53\n").expect("our own /run");
    }
    fs::read_to_string(at).expect("a resolv.conf")
}

fn ask(instance: &Instance, program: &str, arguments: &[&str]) -> Outcome {
    let mut command = instance.namespace.command(program);
    command.args(arguments);
    run(command)
}

fn texts(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<String> {
    addresses.into_iter().map(|address| address.to_string()).collect()
}

#[test]
fn every_client_finds_the_names_it_may_call_and_goes_on_with_others_elsewhere() {
    isolated(|| {
        let world = World::new();
        let lab = lab(&world, 2);
        let (db, own) = (lab.dbs[0].service_address, lab.app.service_address);
        machine_list();
        start_another_server(&lab.app);
        let lists = [
            (
                "two",
                "nameserver 100.127.255.254\nnameserver 127.0.0.1\nsearch shop.warp warp\noptions timeout:15 attempts:1\n",
            ),
            ("three", "nameserver 100.127.255.254\nnameserver 127.0.0.1\nnameserver 127.0.0.1\nsearch shop.warp\n"),
        ];
        fs::write("/run/look-up.c", LOOK_UP).expect("our own /run");
        for compiler in ["gcc", "musl-gcc"] {
            let program = format!("/run/look-up-{compiler}");
            let mut command = Command::new(compiler);
            command.args(["-o", &program, "/run/look-up.c"]);
            run(command).done();
            for (name, list) in lists {
                let file = format!("/run/resolv-{name}");
                fs::write(&file, list).expect("our own /run");
                let names = ["my-db.warp", "app", "grpc.api.warp", "mysql", "none.warp", "example.com"];
                // Both C libraries look into /etc/hosts first.
                let script = format!(
                    "mount --bind {file} /etc/resolv.conf && mount --bind /dev/null /etc/hosts && \
                     mount --bind /dev/null /etc/nsswitch.conf && exec {program} {}",
                    names.join(" ")
                );
                let outcome = ask(&lab.app, "unshare", &["--mount", "sh", "-ec", &script]).done();
                let expected = format!(
                    "my-db.warp {db}\napp {own}\ngrpc.api.warp {}\nmysql {db}\nnone.warp none\nexample.com 192.0.2.7\n",
                    lab.grpc.service_address
                );
                assert_eq!(outcome.stdout, expected, "{compiler}, {name} servers");
            }
        }
    });
}

/// Another server behind ours, as a container has one: it knows example.com, and listens on all addresses.
pub(crate) fn start_another_server(app: &Instance) {
    let socket = app.namespace.enter(|| UdpSocket::bind("0.0.0.0:53").expect("a server of the container's own"));
    thread::spawn(move || another_server(&socket));
}

/// Answers each question for an address of example.com by 192.0.2.7, and all others by NXDOMAIN.
fn another_server(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        // It is farther away than the resolver: musl asks all servers at once, and takes the answer that comes first.
        thread::sleep(Duration::from_millis(20));
        let mut answer = buffer[..length].to_vec();
        let Some(end) = answer[12..].iter().position(|byte| *byte == 0).map(|at| 12 + at + 5) else { continue };
        answer.truncate(end);
        let ours = answer[12..].starts_with(b"\x07example\x03com\0");
        let has_address = ours && answer[end - 3] == 1;
        (answer[2], answer[3]) = (0x85, if ours { 0x80 } else { 0x83 });
        answer[6..12].copy_from_slice(&[0, u8::from(has_address), 0, 0, 0, 0]);
        if has_address {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
        }
        let _ = socket.send_to(&answer, from);
    }
}

#[test]
fn the_resolver_speaks_dns_and_nothing_else_reaches_it() {
    isolated(|| {
        let world = World::new();
        let lab = lab(&world, 24);
        let (db, grpc) = (lab.dbs[0].service_address, &lab.grpc);
        assert_eq!(lab.aws.run("shop/app", &["printenv", "WARP_DNS"]).done().stdout, "100.127.255.254\n");

        // A command has a resolv.conf of its own, and the machine keeps its own.
        let before = machine_list();
        let script = "cat /etc/resolv.conf && getent ahostsv4 all.mysql | wc -l && getent hosts i-1";
        let said = lab.aws.run("shop/app", &["sh", "-ec", script]).done().stdout;
        let list = "nameserver 100.127.255.254\nsearch shop.warp warp\noptions timeout:1 attempts:2\n";
        let lines: Vec<&str> = said.strip_prefix(list).unwrap_or_else(|| panic!("{said}")).lines().collect();
        assert_eq!(lines[0], "72", "24 addresses for three kinds of sockets");
        assert!(lines[1].starts_with(&lab.dbs[0].address.to_string()) && lines[1].ends_with("i-1.warp"), "{said}");
        assert_eq!(machine_list(), before);

        // Addresses, of the service and of all instances; the caller's own runner first.
        assert_eq!(lab.short(&["my-db.warp"]), texts([db]));
        let near_first = || texts(lab.dbs.iter().rev().take(1).chain(&lab.dbs[..23]).map(|db| db.address));
        let mut all = lab.short(&["+bufsize=1232", "all.my-db.warp"]);
        assert_eq!(all.first(), near_first().first());
        all.sort_unstable();
        let mut expected = near_first();
        expected.sort_unstable();
        assert_eq!(all, expected);
        // What is too long for 512 bytes comes by TCP, which dig does by itself.
        assert_eq!(lab.short(&["+noedns", "_port._tcp.all.my-db.warp", "SRV"]).len(), 24);
        let cut = lab.dig(&["+noedns", "+ignore", "_port._tcp.all.my-db.warp", "SRV"]).stdout;
        assert!(cut.contains(" tc") && cut.contains("ANSWER: 0"), "{cut}");
        for by_tcp in [&["+tcp"][..], &["+tcp", "+keepopen", "app.warp", "+tcp"]] {
            assert_eq!(lab.short(&[by_tcp, &["my-db.shop.warp"]].concat()).last(), texts([db]).first());
        }

        // Other types and names.
        for (arguments, expected) in [
            (&["i-1.warp"][..], lab.dbs[0].address.to_string()),
            (&["-x", &grpc.service_address.to_string()], "grpc.api.warp.".to_owned()),
            (&["-x", &grpc.address.to_string()], format!("{}.warp.", grpc.id)),
            (&["_port._tcp.my-db.warp", "SRV"], "0 1 5432 my-db.shop.warp.".to_owned()),
            (&["warp", "NS"], "ns.dns.warp.".to_owned()),
        ] {
            assert_eq!(lab.short(arguments), [expected], "{arguments:?}");
        }
        for (arguments, words) in [
            (&["my-db.warp", "AAAA"][..], &["NOERROR", "ANSWER: 0", "SOA"][..]),
            (&["nothing.warp"], &["NXDOMAIN", "SOA", " aa"]),
            (&["example.com"], &["REFUSED"]),
            (&["+edns=1", "+noednsnegotiation", "my-db.warp"], &["BADVERS"]),
            (
                &["+dnssec", "+cookie", "+nsid", "+subnet=192.0.2.0/24", "my-db.warp"],
                &["NOERROR", "flags: do", "udp: 1232"],
            ),
            (&["+ednsopt=65001:00ff", "+bufsize=4096", "mY-dB.wArP"], &["NOERROR", "mY-dB.wArP.\t\t5\tIN\tA"]),
            (&["+opcode=STATUS", "my-db.warp"], &["NOTIMP"]),
            (&["my-db.warp", "AXFR"], &["Transfer failed"]),
            (&["+header-only"], &["FORMERR"]),
        ] {
            let said = lab.dig(arguments).stdout;
            assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        }
        let drill = ask(&lab.app, "drill", &["@100.127.255.254", "-b", "1232", "my-db.shop.warp"]).done().stdout;
        assert!(drill.contains(&format!("my-db.shop.warp.\t5\tIN\tA\t{db}")), "{drill}");

        // Nothing else of that address is there.
        is_refused(&lab.app, RESOLVER, 80);
        let udp = lab.app.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        udp.connect((RESOLVER, 5353)).expect("a route");
        udp.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        udp.send(b"x").expect("sent");
        let refused = udp.recv(&mut [0]).expect_err("nothing there").kind();
        assert_eq!(refused, std::io::ErrorKind::HostUnreachable);
        // A container that serves names itself listens on all addresses, and is reached by its own.
        let _own = lab.dbs[0].serve(53, Answer::Echo);
        reaches(&lab.app, lab.dbs[0].address, 53);

        // A right that is taken takes the names along.
        lab.coordinator.command(&["trust", "shop", "--app", "api", "--remove", "--wait"]).done();
        for name in ["grpc.api.warp", &format!("{}.warp", grpc.id)] {
            assert!(lab.dig(&[name]).stdout.contains("NXDOMAIN"), "{name}");
        }
    });
}

#[test]
fn a_flood_of_questions_and_a_restart_leave_others_their_answers() {
    isolated(|| {
        let world = World::new();
        let mut lab = lab(&world, 2);
        let flooder = &lab.dbs[1];
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05my-db\x04warp\0\0\x01\0\x01";
        let flood = flooder.namespace.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        flood.connect((RESOLVER, 53)).expect("a route");
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = flood.send(question);
                }
            });
            wait::until_true("the flood to be limited", || lab.aws.drops("dns-limited") > 1000);
            for _ in 0..20 {
                assert_eq!(lab.short(&["my-db.warp"]), texts([lab.dbs[0].service_address]));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        lab.aws.kill();
        lab.aws.start_alone(&[]);
        assert_eq!(lab.short(&["my-db.warp"]), texts([lab.dbs[0].service_address]));
        assert_eq!(lab.ovh.drops("dns-limited"), 0);
    });
}

/// A balancer that finds the instances of `shop/my db` by itself, and where it listens.
const BALANCERS: [(&str, &[&str], u16, &str); 2] = [
    (
        "haproxy",
        &["-db", "-f"],
        8080,
        "resolvers mesh\n nameserver own 100.127.255.254:53\n accepted_payload_size 1232\n hold valid 1s\n\
         timeout resolve 1s\n timeout retry 1s\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
         frontend in\n bind 127.0.0.1:8080\n default_backend db\n\
         backend db\n balance roundrobin\n\
         server-template db 4 _port._tcp.all.my-db.warp resolvers mesh resolve-prefer ipv4 init-addr none\n",
    ),
    (
        "nginx",
        &["-e", "stderr", "-c"],
        8081,
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nmaster_process off;\npid /run/nginx-pid;\nevents {}\n\
         stream {\n map $protocol $all { default all.my-db.warp:5432; }\n\
         resolver 100.127.255.254 valid=1s ipv6=off;\n\
         server { listen 127.0.0.1:8081; proxy_pass $all; }\n}\n",
    ),
];

#[test]
fn balancers_find_the_instances_and_follow_them() {
    isolated(|| {
        let world = World::new();
        let lab = lab(&world, 2);
        let serve = |db: &Instance| db.serve(5432, Answer::Greeting(db.id.clone()));
        let mut servers: Vec<_> = lab.dbs.iter().map(serve).collect();
        let daemons = BALANCERS.map(|(program, arguments, _, text)| {
            let file = format!("/run/{program}.conf");
            fs::write(&file, text).expect("our own /run");
            let mut command = lab.app.namespace.command(program);
            command.args(arguments).arg(&file);
            Daemon::start(command, Path::new(&format!("/run/{program}.log")))
        });
        let reached_by = |port: u16| {
            let greeting = || -> std::io::Result<String> {
                let mut text = String::new();
                let stream = traffic::connect(Ipv4Addr::LOCALHOST, port)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut text)?;
                Ok(text.trim().to_owned())
            };
            lab.app.namespace.enter(greeting).unwrap_or_default()
        };
        let all_are_reached = |ids: &[String]| {
            for (program, _, port, _) in BALANCERS {
                let mut left: Vec<&String> = ids.iter().collect();
                wait::until_true(&format!("{program} to reach {ids:?}"), || {
                    let reached = reached_by(port);
                    left.retain(|id| **id != reached);
                    left.is_empty()
                });
            }
        };
        let ids = |dbs: &[Instance]| -> Vec<String> { dbs.iter().map(|db| db.id.clone()).collect() };
        all_are_reached(&ids(&lab.dbs));
        let new = lab.ovh.attach("shop/my db");
        servers.push(serve(&new));
        all_are_reached(std::slice::from_ref(&new.id));
        drop(daemons);
    });
}
