//! Which labels make a container a member, and of what.

use super::*;

fn labels(list: &[(&str, &str)]) -> Labels {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of(list: &[(&str, &str)], sources: &Sources) -> Option<(String, bool)> {
    member(&labels(list), sources).unwrap().map(|member| (member.service.to_string(), member.client))
}

fn named(service: &str, client: bool) -> Option<(String, bool)> {
    Some((service.to_owned(), client))
}

const COMPOSE: [(&str, &str); 3] = [
    ("com.docker.compose.project", "shop"),
    ("com.docker.compose.service", "db"),
    ("com.docker.compose.oneoff", "False"),
];

#[test]
fn the_label_of_mesh_counts_always_and_first() {
    let none = Sources::default();
    assert_eq!(of(&[("mesh.service", "shop/my db")], &none), named("shop/my db", false));
    assert_eq!(of(&[("mesh.service", "shop/db"), ("mesh.client", "true")], &none), named("shop/db", true));
    assert_eq!(
        of(&[&COMPOSE[..], &[("mesh.service", "api/web")]].concat(), &Sources::everything()),
        named("api/web", false)
    );
    assert_eq!(of(&[("maintainer", "me")], &Sources::everything()), None);
}

#[test]
fn what_asks_for_the_mesh_and_makes_no_sense_is_refused() {
    for list in [
        [("mesh.service", "shop"), ("x", "y")],
        [("mesh.service", ""), ("x", "y")],
        [("mesh.service", "Shop/db"), ("x", "y")],
        [("mesh.service", "shop/db"), ("mesh.client", "yes")],
    ] {
        let refusal = member(&labels(&list), &Sources::default()).unwrap_err();
        assert!(refusal.hint.is_some_and(|hint| hint.contains("mesh.")), "{}", refusal.error);
    }
}

#[test]
fn a_mistyped_label_is_refused_with_the_right_one_and_others_labels_are_not() {
    for (name, right) in [
        ("mesh.servcie", "mesh.service="),
        ("mesh.Service", "mesh.service="),
        ("Mesh.service", "mesh.service="),
        ("mesh.service ", "mesh.service="),
        ("mesh-service", "mesh.service="),
        ("mehs.service", "mesh.service="),
        ("mesh.cleint", "mesh.client="),
        ("mesh.deployment", "mesh."),
        ("mesh", "mesh.service="),
        ("mesh/service", "mesh.service="),
        ("mesh/client", "mesh.client="),
        ("io.mesh.service", "mesh.service="),
        ("com.mesh.service", "mesh.service="),
        ("com.mesh.client", "mesh.client="),
    ] {
        for also in [("x", "y"), (SERVICE, "shop/db")] {
            let refusal = member(&labels(&[(name, "shop/db"), also]), &Sources::default()).unwrap_err();
            assert!(refusal.error.contains(name) && refusal.hint.unwrap().contains(right), "{}", refusal.error);
        }
        let mut from_the_image = labels(&[(name, "shop/db")]);
        leave_out_the_images(&mut from_the_image, &labels(&[(name, "shop/db")]));
        assert_eq!(member(&from_the_image, &Sources::default()), Ok(None), "{name}");
    }
    let others = ["mesh.traefik.io/traffic-type", "service", "kuma.io/mesh", "meshed", "io.mesher.service", "role"];
    for name in others {
        assert_eq!(member(&labels(&[(name, "shop/db")]), &Sources::default()), Ok(None), "{name}");
    }
    assert!(member(&labels(&[("mesh.variables", "{}"), ("mesh.refused", "so")]), &Sources::default()).is_ok());
}

#[test]
fn a_container_that_only_calls_and_names_no_service_is_refused_unless_its_image_says_so() {
    let list = labels(&[(CLIENT, "true"), ("x", "y")]);
    let refusal = member(&list, &Sources::default()).unwrap_err();
    assert!(refusal.error.contains(CLIENT) && refusal.hint.unwrap().contains("mesh.service=DEPLOYMENT/SERVICE"));
    let mut from_the_image = list;
    leave_out_the_images(&mut from_the_image, &labels(&[(CLIENT, "true")]));
    assert_eq!(member(&from_the_image, &Sources::default()), Ok(None));
    assert_eq!(of(&[&COMPOSE[..], &[(CLIENT, "true")]].concat(), &Sources::everything()), named("shop/db", true));
}

#[test]
fn a_platforms_labels_count_where_it_is_named_and_for_the_deployments_named() {
    assert_eq!(of(&COMPOSE, &Sources::default()), None);
    let only = |name: &str| Sources { compose: vec![name.to_owned()], ..Sources::default() };
    assert_eq!(of(&COMPOSE, &only("billing")), None);
    assert_eq!(of(&COMPOSE, &only("shop")), named("shop/db", false));
    assert_eq!(of(&COMPOSE, &Sources { swarm: vec!["*".into()], ..Sources::default() }), None);
}

#[test]
fn every_platform_is_understood() {
    for (list, expected) in [
        (
            vec![
                ("coolify.projectName", "shop"),
                ("coolify.environmentName", "production"),
                ("coolify.serviceName", ""),
                ("coolify.resourceName", "web"),
                ("coolify.pullRequestId", "0"),
            ],
            named("shop-production/web", false),
        ),
        (vec![("service", "shop"), ("role", "web"), ("destination", "")], named("shop/web", false)),
        (vec![("service", "shop"), ("role", "web"), ("destination", "staging")], named("shop-staging/web", false)),
        (vec![("service", "shop-db")], None),
        (vec![("com.dokku.app-name", "shop"), ("com.dokku.process-type", "web")], named("shop/web", false)),
        (
            vec![("com.hashicorp.nomad.job_name", "shop"), ("com.hashicorp.nomad.task_name", "web")],
            named("shop/web", false),
        ),
        (
            vec![("com.docker.stack.namespace", "shop"), ("com.docker.swarm.service.name", "shop_web")],
            named("shop/web", false),
        ),
        (vec![("com.docker.swarm.service.name", "shop_web")], None),
    ] {
        assert_eq!(of(&list, &Sources::everything()), expected, "{list:?}");
    }
}

#[test]
fn what_only_resembles_the_service_is_never_a_destination() {
    let [project, service, _] = COMPOSE;
    assert_eq!(
        of(&[project, service, ("com.docker.compose.oneoff", "True")], &Sources::everything()),
        named("shop/db", true)
    );
    assert_eq!(of(&[project, service], &Sources::everything()), None, "an image that Compose has built, run otherwise");
    let dokku =
        [("com.dokku.app-name", "shop"), ("com.dokku.process-type", "web"), ("com.dokku.container-type", "run")];
    assert_eq!(of(&dokku, &Sources::everything()), named("shop/web", true));
    let preview = [
        ("coolify.projectName", "shop"),
        ("coolify.environmentName", "production"),
        ("coolify.serviceName", "web"),
        ("coolify.pullRequestId", "7"),
    ];
    assert_eq!(of(&preview, &Sources::everything()), None);
}

type List = &'static [(&'static str, &'static str)];

/// Every platform: what stands on images that it builds itself, and what it gives a container besides.
const PLATFORMS: [(List, List); 6] = [
    (&[COMPOSE[0], COMPOSE[1]], &[COMPOSE[2]]),
    (&[("service", "shop")], &[("role", "db"), ("destination", "")]),
    (
        &[("com.dokku.app-name", "shop"), ("com.dokku.image-stage", "release")],
        &[("com.dokku.process-type", "db"), ("com.dokku.container-type", "deploy")],
    ),
    (&[], &[("com.hashicorp.nomad.job_name", "shop"), ("com.hashicorp.nomad.task_name", "db")]),
    (&[], &[("com.docker.stack.namespace", "shop"), ("com.docker.swarm.service.name", "shop_db")]),
    (
        &[("coolify.deploymentId", "x")],
        &[("coolify.projectName", "sh"), ("coolify.environmentName", "op"), ("coolify.resourceName", "db")],
    ),
];

#[test]
fn an_image_makes_no_container_a_member_whichever_platform_it_claims() {
    for (built, given) in PLATFORMS {
        let all = [built, given].concat();
        assert!(of(&all, &Sources::everything()).is_some(), "{all:?}");
        let mut from_the_image = labels(&all);
        leave_out_the_images(&mut from_the_image, &labels(&all));
        assert_eq!(member(&from_the_image, &Sources::everything()), Ok(None), "{all:?}");
    }
    // Of several marks each has to come from the run: Nomad may have been told to write only one of them, and without
    // Coolify's service there is the name of what it belongs to.
    let [.., (_, nomad), _, (_, coolify)] = PLATFORMS;
    let coolify = [coolify, &[("coolify.serviceName", "cache")]].concat();
    for all in [nomad, &coolify] {
        for from_the_image in all {
            let mut run = labels(all);
            leave_out_the_images(&mut run, &labels(&[*from_the_image]));
            assert_eq!(member(&run, &Sources::everything()), Ok(None), "{from_the_image:?}");
        }
    }
}

#[test]
fn an_image_does_not_make_a_destination_of_what_only_calls() {
    let given = labels(&[("mesh.service", "shop/db"), ("mesh.client", "true")]);
    let mut run = given.clone();
    leave_out_the_images(&mut run, &labels(&[("mesh.client", "true")]));
    assert_eq!(run, given);
}

#[test]
fn an_image_that_a_platform_has_built_keeps_no_container_from_its_service() {
    for (built, given) in PLATFORMS {
        let mut run = labels(&[built, given].concat());
        let before = member(&run, &Sources::everything());
        leave_out_the_images(&mut run, &labels(built));
        assert_eq!(member(&run, &Sources::everything()), before, "{built:?} {given:?}");
    }
}

#[test]
fn a_project_that_could_not_be_a_deployment_is_none_of_ours() {
    let [_, service, oneoff] = COMPOSE;
    assert_eq!(of(&[("com.docker.compose.project", "my_app"), service, oneoff], &Sources::everything()), None);
}

#[test]
fn a_release_is_told_beside_the_service_and_an_image_may_tell_its_own() {
    let release = |list: &[(&str, &str)], of_image: &[(&str, &str)]| {
        let mut all = labels(list);
        all.extend(labels(of_image));
        leave_out_the_images(&mut all, &labels(of_image));
        member(&all, &Sources::default()).map(|member| member.and_then(|member| member.release).map(String::from))
    };
    let service = ("mesh.service", "shop/db");
    assert_eq!(release(&[service, ("mesh.release", "v42")], &[]), Ok(Some("v42".to_owned())));
    assert_eq!(release(&[service], &[("mesh.release", "v41")]), Ok(Some("v41".to_owned())));
    assert_eq!(release(&[service], &[("mesh.release", "no release")]), Ok(None), "an image prevents no start");
    assert_eq!(release(&[], &[("mesh.release", "v41")]), Ok(None), "nor makes a member");
    for (list, words) in [
        (&[service, ("mesh.release", "a b")][..], "mesh.release=a b"),
        (&[("mesh.release", "v42")], "none that names the service"),
        (&[service, ("mesh.relaese", "v42")], "mesh.relaese"),
    ] {
        let refusal = release(list, &[]).unwrap_err();
        assert!(refusal.error.contains(words) && refusal.hint.is_some(), "{refusal:?}");
    }
}

#[test]
fn kamal_tells_the_release_in_a_variable() {
    let release = |list: &[(&str, &str)], environment: &[&str], sources: &Sources| {
        let member = member(&labels(list), sources).unwrap().unwrap();
        member.with_environment(environment.iter().copied()).release.map(String::from)
    };
    let everything = Sources::everything();
    let [service, role] = [("service", "shop"), ("role", "web")];
    let told = ["PATH=/bin", "KAMAL_VERSION=0a1b2c", "KAMAL_VERSIONS=3"];
    assert_eq!(release(&[service, role], &told, &everything), Some("0a1b2c".to_owned()));
    assert_eq!(release(&[service, role], &["KAMAL_VERSION=a b"], &everything), None, "it prevents no start");
    assert_eq!(release(&[service, role], &[], &everything), None);
    // What people say themselves counts first, and the variable means nothing in other platforms' containers.
    let own = ("mesh.release", "v42");
    assert_eq!(release(&[service, role, own], &told, &everything), Some("v42".to_owned()));
    assert_eq!(release(&[("mesh.service", "shop/web")], &told, &everything), None);
}
