//! Names work where a daemon resolves for the machine: it doesn't see a command's own hosts file.

use std::{fs, io::Read as _, os::unix::net::UnixListener, thread, time::Duration};

use mesh_netns_tests::{Stack, World, isolated};

use crate::common::{SHOP, declare};

#[test]
fn a_daemon_that_answers_for_the_machine_is_out_of_a_commands_reach() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::Dual);
        let sockets = ["/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"];
        let listeners = sockets.map(|socket| {
            fs::create_dir_all(std::path::Path::new(socket).parent().expect("a directory")).expect("our own /run");
            UnixListener::bind(socket).expect("our own /run")
        });
        fs::write("/run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\n").expect("our own /run");
        // A program that asks one of them waits for its answer.
        for listener in listeners {
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                    let _ = stream.read(&mut [0; 1024]);
                }
            });
        }
        let script =
            "getent hosts db.warp && ls /run/nscd /run/systemd/resolve && cat /run/systemd/resolve/resolv.conf";
        let outcome = aws.run("shop/app", &["sh", "-c", script]).done();
        assert!(outcome.stdout.contains("db.warp"), "{}", outcome.stdout);
        assert!(!outcome.stdout.contains("socket") && !outcome.stdout.contains("io.systemd"), "{}", outcome.stdout);
        assert!(outcome.stdout.contains("nameserver 192.0.2.53"), "{}", outcome.stdout);
        // The machine's own daemons are unchanged.
        assert!(sockets.iter().all(|socket| fs::exists(socket).expect("our own /run")));
    });
}
