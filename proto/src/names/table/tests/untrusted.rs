//! Views that a coordinator of another version, or a hostile one, could send.

use super::*;

proptest! {
    /// Whatever the coordinator sends: no name leads to two addresses, and every name is valid in its file.
    #[test]
    fn names_are_lines_that_lead_to_one_place(
        services in proptest::collection::vec((1_u64..4, "[a-c][- .=éA]{0,2}[a-c]?", any::<bool>(), "[a-c]{1,2}"), 1..12),
        deployments in proptest::collection::vec("[a-c](-[a-c])?", 3),
        ist in proptest::collection::vec(("[a-c]", "[A-Ca-c]", "[A-Ca-c]"), 0..4),
    ) {
        let mut world = world();
        for (id, name) in (1..).zip(&deployments) {
            world = world.deployment(id, name, "t");
        }
        let ist: Vec<_> = ist.iter().map(|(s, v, h)| (&**s, [&**v], [&**h])).collect();
        let ist: Vec<_> = ist.iter().map(|(s, v, h)| (*s, &v[..], &h[..])).collect();
        for (id, (deployment, name, automatic, alias)) in (1..).zip(&services) {
            world = world.any_service(*deployment, id, name, *automatic).naming(id, &[alias], None, &ist);
            world = world.grant(deployment % 3 + 1, id, Ports::All);
        }
        for service in world.0.services() {
            let names = names(&world.0, service.id).unwrap();
            let mut seen = BTreeMap::new();
            for (address, name) in &names.hosts {
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'), "{name:?}");
                let other = seen.insert(name.to_ascii_lowercase(), address);
                prop_assert!(other.is_none_or(|other| other == address), "{name} leads to {address} and {other:?}");
            }
            for (name, value) in &names.variables {
                prop_assert!(!name.contains(['=', ' ', '\0']) && value.parse::<Ipv4Addr>().is_ok(), "{name}={value}");
            }
            prop_assert!(names.shell_variables().all(|(name, _)| is_identifier(name)));
        }
    }
}

#[test]
fn nothing_that_no_service_can_be_called_comes_from_a_coordinator() {
    let hostile = world()
        .deployment(1, "shop", "acme")
        .deployment(42, "42", "acme")
        .service(1, 1, "10")
        .service(1, 2, "app")
        .service(42, 3, "db")
        .grant(1, 3, Ports::All)
        .naming(
            1,
            &["x1\n203.0.113.66 api.bank.example", "deb.debian.org #", "0x7f.1", "localhost", "a b", "fine"],
            None,
            &[(
                "10",
                &["LD_PRELOAD", "LD_PRELOAD=/tmp/evil.so:", "PATH", "A\nB", "GOOD"],
                &["1.2", "good.local", "\u{202e}x"],
            )],
        );
    let names = hostile.names(1);
    assert_eq!(
        names.lines(),
        [
            "10.warp→1",
            "10.shop.warp→1",
            "10.shop→1",
            "fine→1",
            "fine.warp→1",
            "app.warp→2",
            "app→2",
            "app.shop.warp→2",
            "app.shop→2",
            "good.local→1",
            "db.42.warp→3",
            "42-db→3",
        ]
    );
    assert_eq!(
        names.variable_list(),
        ["GOOD=100.112.0.1", "WARP_IST_10=100.112.0.1", "WARP_IST_42_db=100.112.0.3", "WARP_IST_app=100.112.0.2"]
    );
    let told = names.warnings.join("\n");
    for left_out in
        ["`10`", "`db.42`", "`x1\\n203.0.113.66 api.bank.example`", "`LD_PRELOAD`", "`PATH`", "`1.2`", "`A\\nB`"]
    {
        assert_eq!(told.matches(&format!("{left_out} for")).count(), 1, "{left_out}: {told}");
    }
    assert!(names.warnings.iter().all(|warning| !warning.contains('\n')), "{told}");
}

#[test]
fn no_name_leads_out_of_the_mesh() {
    let mut world = shop();
    for (id, address) in [(3, [203, 0, 113, 66]), (4, [127, 0, 0, 1]), (5, [100, 112, 0, 0]), (6, [100, 127, 255, 255])]
    {
        let (id, name) = (ServiceId(id), format!("s-{id}").parse().unwrap());
        let service = Service { id, deployment: DeploymentId(1), name, address: address.into(), automatic_names: true };
        world.0.put(Record::Service(service.into()));
    }
    let names = world.names(2);
    assert_eq!((names.lines(), names.variable_list()), (shop().names(2).lines(), shop().names(2).variable_list()));
    assert!(names.warnings.iter().any(|warning| warning.contains("203.0.113.66, which is no address of the mesh")));
}

#[test]
fn a_deployment_that_is_trusted_by_many_keeps_its_own_names_and_some_of_each() {
    let mut world = world().deployment(1, "monitoring", "acme").service(1, 1, "prometheus");
    let mut id = 100;
    let mut foreign = |world: World, deployment: u64, services: u64| {
        let mut world = world.deployment(deployment, &format!("customer-project-{deployment}"), "acme");
        for n in 0..services {
            id += 1;
            let address = Ipv4Addr::from_bits(0x6470_0000 + u32::try_from(id).unwrap());
            let (id, deployment) = (ServiceId(id), DeploymentId(deployment));
            let name = format!("a-service-with-a-name-{n}").parse().unwrap();
            let service = Service { id, deployment, name, address, automatic_names: true };
            world.0.put(Record::Service(service.into()));
            world.0.put(Record::Grant(Grant { caller: DeploymentId(1), callee: id, ports: Ports::All }.into()));
        }
        world
    };
    // One of them has as many as it can.
    world = foreign(world, 2, 4096);
    for deployment in 3..300 {
        world = foreign(world, deployment, 2);
    }
    let names = world.names(1);
    let size: usize = names.hosts.iter().map(|(address, name)| address.to_string().len() + name.len() + 2).sum();
    assert!(size < crate::names::LIMIT && size > crate::names::LIMIT - 200, "{size}");
    let has = |name: &str| names.hosts.iter().any(|(_, there)| there == name);
    assert!(has("prometheus") && has("prometheus.monitoring.warp"));
    for deployment in 3..300 {
        assert!(has(&format!("a-service-with-a-name-1.customer-project-{deployment}.warp")), "{deployment}");
    }
    let left_out = (4096 + 297 * 2) * 3 - (names.hosts.len() - 4);
    let warning = names.beyond.unwrap();
    assert!(
        warning.starts_with(&format!("{left_out} host names are left out, all of them of other deployments")),
        "{warning}"
    );
    assert_eq!(names.warnings, [warning]);
    assert_eq!(names.foreign_variables.len() + 2, names.variables.len());
    let all = hosts(&world.0, ServiceId(1)).unwrap();
    assert_eq!(all.len(), names.hosts.len() + left_out, "the resolver has them all");
}
