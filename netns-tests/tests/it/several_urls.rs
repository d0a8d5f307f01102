//! A coordinator with several URLs: the stream moves to another where one stops working.

use mesh_netns_tests::{
    Namespace, Stack, World, isolated, run,
    traffic::{Answer, ping},
    wait,
};

use crate::common::{SHOP, declare};

/// Refuses TCP to the coordinator by one protocol, and ends its connections.
fn refuse(machine: &Namespace, protocol: &str) {
    let rule = format!("meta nfproto {protocol} tcp dport 7443 reject with tcp reset");
    machine.nft(&format!(
        "table inet refuse\ndelete table inet refuse\ntable inet refuse {{\nchain input {{\n\
         type filter hook input priority 0\n{rule}\n}}\n}}\n"
    ));
}

#[test]
fn a_stream_moves_to_another_url_and_so_do_commands() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        refuse(coordinator.namespace(), "ipv4");
        // Nothing answers at the first URL.
        let urls = format!("https://10.0.1.77:7443,{},{}", coordinator.url(false), coordinator.url(true));
        let mut aws = world.machine("aws", Stack::Dual);
        aws.start(&[&urls, &coordinator.token(&["--any"]), "--name", "aws"]);
        let (app, db) = (aws.attach("shop/app"), aws.attach("shop/db"));
        let _server = db.serve(5432, Answer::Echo);
        let mut standing = app.connect(db.service_address, 5432).expect("a connection");
        let streams = |by: &str| aws.log().matches(&format!("seen_from={by}")).count();
        assert!(streams("10.") == 0 && streams("fd") > 0, "{}", aws.log());
        for (refused, by) in [("ipv6", "10."), ("ipv4", "fd")] {
            let before = streams(by);
            refuse(coordinator.namespace(), refused);
            wait::until_true("the stream to move", || streams(by) > before);
            wait::until_true("the map", || aws.command(&["status", "--json"]).is_connected());
            ping(&mut standing, b"still there").expect("the connection stands");
        }
        let admin = coordinator.command(&["token", "create", "--admin"]).done().stdout;
        let mut command = aws.namespace().command(&std::env::var("MESH_COORD").expect("the program"));
        command
            .args(["nodes", "--json", "--url", &urls])
            .env_remove("MESH_COORD_DATA")
            .env("MESH_ADMIN_TOKEN", admin.trim());
        assert_eq!(run(command).done().json()["nodes"][0]["name"], "aws");
    });
}
