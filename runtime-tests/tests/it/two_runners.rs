//! Containers of two Dockers on two machines.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mesh_netns_tests::{Runner, Stack, isolated, wait};
use mesh_runtime_tests::{Docker, Stage};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const BILLING: &str = "deployment = \"billing\"\n[services.api]\n";
const APP: [&str; 2] = ["--label", "mesh.service=shop/app"];
const DB: [&str; 2] = ["--label", "mesh.service=shop/db"];
const API: [&str; 2] = ["--label", "mesh.service=billing/api"];

fn second(stage: &Stage) -> Runner {
    stage.world.runner(&stage.coordinator, "ovh", Stack::Dual)
}

#[test]
fn a_container_reaches_another_machines_and_who_is_not_trusted_is_refused() {
    isolated(|| {
        let stage = Stage::new(&[SHOP, BILLING]);
        let ovh = second(&stage);
        let (here, there) = (Docker::start(&stage.lab, &stage.aws), Docker::start(&stage.lab, &ovh));
        let before = stage.census();
        let db = here.container(&DB, &["nc", "-ll", "-p", "5432", "-e", "echo", "the price list"]);
        let listens = || there.run(&APP, "nc -w 5 db.warp 5432 </dev/null").stdout == "the price list\n";
        wait::until_true("the price list", listens);
        assert_eq!(there.run(&APP, "nc $WARP_IST_db 5432 </dev/null").done().stdout, "the price list\n");

        let address = stage.coordinator.address_of("shop/db");
        let ask = format!("nc {address} 5432 </dev/null");
        let refused = there.run(&API, &ask).expect_code(1);
        assert!(refused.stderr.contains("No route to host"), "{}", refused.stderr);
        stage.coordinator.command(&["trust", "billing", "--app", "shop", "--wait"]).done();
        assert_eq!(there.run(&API, &ask).done().stdout, "the price list\n");
        here.command(&["rm", "--force", &db.id]).done();
        stage.nothing_is_left(&before);
    });
}

#[test]
fn a_large_file_comes_through_whole() {
    isolated(|| {
        let stage = Stage::new(&[SHOP]);
        let ovh = second(&stage);
        let (here, there) = (Docker::start(&stage.lab, &stage.aws), Docker::start(&stage.lab, &ovh));
        let files = "/run/files-shared";
        fs::create_dir_all(files).expect("cannot make a directory");
        fs::set_permissions(files, fs::Permissions::from_mode(0o777)).expect("cannot open it to all");
        let volume = [&["--volume"][..], &["/run/files-shared:/files"]].concat();
        let flags = |service: [&'static str; 2]| [&service[..], &volume].concat();
        let size = 64 << 20;
        let _db = here.container(
            &flags(DB),
            &["sh", "-c", &format!("head -c {size} /dev/urandom >/files/sent && nc -ll -p 5432 -e cat /files/sent")],
        );
        wait::until_true("the file to be there", || {
            fs::metadata("/run/files-shared/sent").is_ok_and(|file| file.len() == size)
        });
        let fetch = "until nc db.warp 5432 >/files/received </dev/null; do sleep 0.1; done";
        there.run(&flags(APP), fetch).done();
        let read = |name: &str| fs::read(format!("{files}/{name}")).expect("the file");
        assert!(read("sent") == read("received"), "the same bytes");
    });
}
