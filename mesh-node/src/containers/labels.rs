//! Which service a container belongs to, by its labels or annotations.
//!
//! `mesh.service=DEPLOYMENT/SERVICE` names it. Labels that platforms write for their own purposes count if the configuration names
//! the platform and the deployment.

use std::collections::BTreeMap;

use mesh_proto::{ServicePath, message::Refusal};
use serde_json::Value;

use crate::{config::Sources, hint::distance};

/// Labels or annotations, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// The label that names the service.
pub(crate) const SERVICE: &str = "mesh.service";
/// The label of a container that only opens connections: `true`; `false` is the same as no label.
pub(crate) const CLIENT: &str = "mesh.client";

/// A container's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The service.
    pub(crate) service: ServicePath,
    /// Whether it only opens connections.
    pub(crate) client: bool,
}

/// The labels in a JSON object. Values that are no strings are left out.
pub(crate) fn texts(value: Option<&Value>) -> Labels {
    let all = value.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Labels that only the start of a container sets, by platform: no platform writes them into the images that it builds. Without
/// them the platform has said nothing. (`mesh.client` is not among them: it reaches no other service.)
const OF_A_RUN: [&[&str]; 7] = [
    &[SERVICE],
    // Compose writes project and service into the images that it builds.
    &["com.docker.compose.oneoff"],
    // Kamal writes `service` into its images.
    &["role", "destination"],
    // Dokku writes `com.dokku.app-name` into its images.
    &["com.dokku.process-type"],
    &["com.hashicorp.nomad.job_name", "com.hashicorp.nomad.task_name"],
    &["com.docker.stack.namespace", "com.docker.swarm.service.name"],
    // Coolify writes `coolify.deploymentId` into its images.
    &["coolify.projectName", "coolify.environmentName", "coolify.serviceName", "coolify.resourceName"],
];

/// The message about a container that [`leave_out_the_images`] makes no member.
pub(crate) const IMAGES_OWN: &str = "it runs without the mesh: its image itself says what would make it a member, and that doesn't count; give the container a label (podman: an annotation) that its image has not";

/// Other labels of mesh, which it writes itself.
const WRITTEN: [&str; 2] = ["mesh.variables", "mesh.refused"];

/// Names by which other programs' conventions would call our labels.
const TAKEN_FOR_OURS: [&str; 7] =
    ["mesh", "mesh/service", "mesh/client", "io.mesh.service", "io.mesh.client", "com.mesh.service", "com.mesh.client"];

/// Whether a label is probably a mistyped label of mesh: its name begins as only ours do, or is close to one of ours. (Other
/// programs' names may begin with `mesh.` too, but they continue as a domain with a `/` behind it.)
fn is_mistyped(name: &str) -> bool {
    let known = [SERVICE, CLIENT].into_iter().chain(WRITTEN).any(|known| known == name);
    let plain = name.trim().to_ascii_lowercase();
    let near = [SERVICE, CLIENT].iter().any(|ours| distance(&plain, ours) <= 2);
    let foreign = plain.contains('/') || !(plain.starts_with("mesh.") || near);
    !known && (!foreign || TAKEN_FOR_OURS.contains(&plain.as_str()))
}

/// Refuses mistyped labels: their container would silently start without the mesh.
fn check_names(labels: &Labels) -> Result<(), Refusal> {
    let Some(name) = labels.keys().find(|name| is_mistyped(name)) else { return Ok(()) };
    let plain = name.trim().to_ascii_lowercase();
    let is_client =
        distance(&plain, CLIENT) < distance(&plain, SERVICE) && plain != "mesh" || plain.ends_with("client");
    let right = if is_client { "mesh.client=true" } else { "mesh.service=DEPLOYMENT/SERVICE" };
    Err(Refusal::new(format!("there is no label or annotation {name}"), format!("it is {right}")))
}

/// Leaves out labels that would make a container a member and that it may have from its image: the maker of an image doesn't decide
/// which container is the database. A label that the start sets to the same value looks the same. All labels of that platform are
/// left out, because the rest alone would mean something else.
pub(crate) fn leave_out_the_images(labels: &mut Labels, of_image: &Labels) {
    labels.retain(|name, value| !is_mistyped(name) || of_image.get(name) != Some(value));
    for marks in OF_A_RUN {
        let is_the_images = |name: &&str| of_image.get(*name).is_some_and(|value| labels.get(*name) == Some(value));
        if marks.iter().any(is_the_images) {
            labels.retain(|name, _| !marks.contains(&name.as_str()));
        }
    }
    // Without a service it means nothing, and an image must not prevent a container's start.
    let asks = OF_A_RUN.iter().copied().flatten().any(|mark| labels.contains_key(*mark));
    if !asks && labels.get(CLIENT).is_some() && labels.get(CLIENT) == of_image.get(CLIENT) {
        labels.remove(CLIENT);
    }
}

/// The membership of a container with these labels; `None`: it is no member.
///
/// # Errors
/// If it asks for the mesh by labels that are invalid.
pub(crate) fn member(labels: &Labels, sources: &Sources) -> Result<Option<Member>, Refusal> {
    check_names(labels)?;
    let Some((service, once)) = service(labels, sources)? else {
        return if labels.contains_key(CLIENT) { Err(no_service()) } else { Ok(None) };
    };
    let client = match get(labels, CLIENT) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(Refusal::new(
                format!("{CLIENT}={other} says nothing"),
                format!("it is `true` for a container that only calls, else leave it out: {CLIENT}=true"),
            ));
        }
    };
    Ok(Some(Member { service, client: client || once }))
}

/// The container asks for the mesh and would start without it.
fn no_service() -> Refusal {
    Refusal::new(
        format!("there is a label or annotation {CLIENT}, and none that names the service"),
        format!("add {SERVICE}=DEPLOYMENT/SERVICE, or leave {CLIENT} out"),
    )
}

/// The service, and whether the container runs beside it.
fn service(labels: &Labels, sources: &Sources) -> Result<Option<(ServicePath, bool)>, Refusal> {
    if let Some(text) = labels.get(SERVICE) {
        let service = text.parse().map_err(|e| {
            Refusal::new(
                format!("{SERVICE}={text}: {e}"),
                format!("the label or annotation is DEPLOYMENT/SERVICE: {SERVICE}=shop/db"),
            )
        })?;
        return Ok(Some((service, false)));
    }
    // Platforms that build on others come first.
    let platforms: [(&[String], Platform); 6] = [
        (&sources.coolify, coolify),
        (&sources.kamal, kamal),
        (&sources.dokku, dokku),
        (&sources.nomad, nomad),
        (&sources.swarm, swarm),
        (&sources.compose, compose),
    ];
    let found = platforms.into_iter().find_map(|(counts_for, read)| {
        let found = read(labels)?;
        let counts = counts(counts_for, &found.deployment);
        // A name that can't be declared is no service.
        let service = format!("{}/{}", found.deployment, found.service).parse().ok().filter(|_| counts)?;
        Some((service, found.once))
    });
    Ok(found)
}

/// Whether a deployment is among those of a list in the configuration.
pub(crate) fn counts(list: &[String], deployment: &str) -> bool {
    list.iter().any(|name| name == "*" || name == deployment)
}

/// Reads a platform's labels.
type Platform = fn(&Labels) -> Option<Found<'_>>;

/// What a platform's labels mean.
struct Found<'a> {
    deployment: String,
    service: &'a str,
    /// It runs beside the service, once: a task, a console. It gets no connections.
    once: bool,
}

/// `defaultLabels` of Coolify's bootstrap/helpers/docker.php. A preview of a pull request is not the deployment.
fn coolify(labels: &Labels) -> Option<Found<'_>> {
    if get(labels, "coolify.pullRequestId").is_some_and(|id| id != "0") {
        return None;
    }
    let deployment = format!("{}-{}", get(labels, "coolify.projectName")?, get(labels, "coolify.environmentName")?);
    let service = get(labels, "coolify.serviceName").or_else(|| get(labels, "coolify.resourceName"))?;
    Some(Found { deployment, service, once: false })
}

/// `default_labels` of Kamal's lib/kamal/configuration/role.rb.
fn kamal(labels: &Labels) -> Option<Found<'_>> {
    let app = get(labels, "service")?;
    let deployment = get(labels, "destination").map_or_else(|| app.to_owned(), |to| format!("{app}-{to}"));
    Some(Found { deployment, service: get(labels, "role")?, once: false })
}

/// Dokku's documentation, «Docker container labels».
fn dokku(labels: &Labels) -> Option<Found<'_>> {
    let once = get(labels, "com.dokku.container-type").is_some_and(|kind| kind != "deploy");
    let deployment = get(labels, "com.dokku.app-name")?.to_owned();
    Some(Found { deployment, service: get(labels, "com.dokku.process-type")?, once })
}

/// `extra_labels` of Nomad's Docker driver, which writes them only if configured so.
fn nomad(labels: &Labels) -> Option<Found<'_>> {
    let deployment = get(labels, "com.hashicorp.nomad.job_name")?.to_owned();
    Some(Found { deployment, service: get(labels, "com.hashicorp.nomad.task_name")?, once: false })
}

/// Only in a stack: a service without one has nothing that could be a deployment.
fn swarm(labels: &Labels) -> Option<Found<'_>> {
    let stack = get(labels, "com.docker.stack.namespace")?;
    let service = get(labels, "com.docker.swarm.service.name")?.strip_prefix(stack)?.strip_prefix('_')?;
    Some(Found { deployment: stack.to_owned(), service, once: false })
}

/// Compose writes project and service into the images that it builds too (`getImageBuildLabels` of its pkg/compose/build.go); only
/// `oneoff` shows that Compose runs the container.
fn compose(labels: &Labels) -> Option<Found<'_>> {
    let once = get(labels, "com.docker.compose.oneoff")? != "False";
    let deployment = get(labels, "com.docker.compose.project")?.to_owned();
    Some(Found { deployment, service: get(labels, "com.docker.compose.service")?, once })
}

/// A label that isn't empty.
fn get<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            of(&[project, service], &Sources::everything()),
            None,
            "an image that Compose has built, run otherwise"
        );
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
}
