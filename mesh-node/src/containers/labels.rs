//! Which service a container belongs to, by its labels or annotations.
//!
//! `mesh.service=DEPLOYMENT/SERVICE` names it. Labels that platforms write for their own purposes count if the configuration names
//! the platform and the deployment.

use std::collections::BTreeMap;

use mesh_proto::{Release, ServicePath, message::Refusal};
use serde_json::Value;

use crate::{config::Sources, hint::distance};

/// Labels or annotations, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// The label that names the service.
pub(crate) const SERVICE: &str = "mesh.service";
/// The label of a container that only opens connections: `true`; `false` is the same as no label.
pub(crate) const CLIENT: &str = "mesh.client";
/// The label that names the release.
pub(crate) const RELEASE: &str = "mesh.release";
/// The label of a container whose resolv.conf gets the resolver: `true`; `false` where the configuration says it for all.
pub(crate) const DNS: &str = "mesh.dns";
/// Those that mean something only beside a service.
const BESIDE_A_SERVICE: [&str; 3] = [CLIENT, RELEASE, DNS];

/// A container's membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The service.
    pub(crate) service: ServicePath,
    /// Whether it only opens connections.
    pub(crate) client: bool,
    /// The release that it runs.
    pub(crate) release: Option<Release>,
    /// The variable in which its platform tells the container the release, where no label does.
    pub(crate) release_variable: Option<&'static str>,
    /// Whether its resolv.conf gets the resolver; `None`: as the configuration says.
    pub(crate) dns: Option<bool>,
}

impl Member {
    /// A container of a service of which nothing else is said.
    pub(crate) const fn of(service: ServicePath) -> Self {
        Self { service, client: false, release: None, release_variable: None, dns: None }
    }

    /// Takes the release from the container's environment (`NAME=VALUE`) if its platform tells it there. What is no release
    /// counts for nothing: it prevents no start.
    pub(crate) fn with_environment<'a>(mut self, environment: impl IntoIterator<Item = &'a str>) -> Self {
        if let (None, Some(name)) = (&self.release, self.release_variable) {
            let value = |entry: &'a str| entry.strip_prefix(name)?.strip_prefix('=');
            self.release = environment.into_iter().filter_map(value).last().and_then(|value| value.parse().ok());
        }
        self
    }
}

/// The labels in a JSON object. Values that are no strings are left out.
pub(crate) fn texts(value: Option<&Value>) -> Labels {
    let all = value.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Labels that only the start of a container sets, by platform: no platform writes them into the images that it builds. Without
/// them the platform has said nothing. (`mesh.client`, `mesh.release` and `mesh.dns` are not among them: they reach no other service.)
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

/// The labels that people write.
const OURS: [&str; 4] = [SERVICE, CLIENT, RELEASE, DNS];

/// Other labels of mesh, which it writes itself.
const WRITTEN: [&str; 2] = ["mesh.variables", "mesh.refused"];

/// Names by which other programs' conventions would call our labels.
const TAKEN_FOR_OURS: [&str; 13] = [
    "mesh",
    "mesh/service",
    "mesh/client",
    "mesh/release",
    "mesh/dns",
    "io.mesh.service",
    "io.mesh.client",
    "io.mesh.release",
    "io.mesh.dns",
    "com.mesh.service",
    "com.mesh.client",
    "com.mesh.release",
    "com.mesh.dns",
];

/// Whether a label is probably a mistyped label of mesh: its name begins as only ours do, or is close to one of ours. (Other
/// programs' names may begin with `mesh.` too, but they continue as a domain with a `/` behind it.)
fn is_mistyped(name: &str) -> bool {
    let known = OURS.into_iter().chain(WRITTEN).any(|known| known == name);
    let plain = name.trim().to_ascii_lowercase();
    let near = OURS.iter().any(|ours| distance(&plain, ours) <= 2);
    let foreign = plain.contains('/') || !(plain.starts_with("mesh.") || near);
    !known && (!foreign || TAKEN_FOR_OURS.contains(&plain.as_str()))
}

/// Refuses mistyped labels: their container would silently start without the mesh.
fn check_names(labels: &Labels) -> Result<(), Refusal> {
    let Some(name) = labels.keys().find(|name| is_mistyped(name)) else { return Ok(()) };
    let plain = name.trim().to_ascii_lowercase();
    let ends =
        BESIDE_A_SERVICE.into_iter().find(|ours| ours.strip_prefix("mesh.").is_some_and(|end| plain.ends_with(end)));
    let nearest = || OURS.into_iter().min_by_key(|ours| distance(&plain, ours)).filter(|_| plain != "mesh");
    let right = match ends.or_else(nearest) {
        Some(CLIENT) => "mesh.client=true",
        Some(RELEASE) => "mesh.release=RELEASE",
        Some(DNS) => "mesh.dns=true",
        _ => "mesh.service=DEPLOYMENT/SERVICE",
    };
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
    // Without a service these mean nothing, and an image must not prevent a container's start. An image may well say which
    // release it is.
    let asks = OF_A_RUN.iter().copied().flatten().any(|mark| labels.contains_key(*mark));
    labels.retain(|name, value| {
        let is_the_images = of_image.get(name) == Some(value);
        let is_wrong = match name.as_str() {
            RELEASE => value.parse::<Release>().is_err(),
            // Whose resolv.conf is changed is not for an image to say.
            DNS => true,
            _ => false,
        };
        !(is_the_images && BESIDE_A_SERVICE.contains(&name.as_str()) && (!asks || is_wrong))
    });
}

/// The membership of a container with these labels; `None`: it is no member.
///
/// # Errors
/// If it asks for the mesh by labels that are invalid.
pub(crate) fn member(labels: &Labels, sources: &Sources) -> Result<Option<Member>, Refusal> {
    check_names(labels)?;
    let Some(mut member) = service(labels, sources)? else {
        let lonely = BESIDE_A_SERVICE.into_iter().find(|name| labels.contains_key(*name));
        return lonely.map_or(Ok(None), |name| Err(no_service(name)));
    };
    member.release = get(labels, RELEASE).map(str::parse).transpose().map_err(|e| {
        let text = labels.get(RELEASE).map(String::as_str).unwrap_or_default();
        Refusal::new(
            format!("{RELEASE}={}: {e}", text.escape_debug().take(80).collect::<String>()),
            format!("it is a version or the hash of a commit: {RELEASE}=v42"),
        )
    })?;
    member.client |= switch(labels, CLIENT, "a container that only calls")?.unwrap_or(false);
    member.dns = switch(labels, DNS, "a container whose resolv.conf gets the resolver")?;
    Ok(Some(member))
}

/// A label that says yes or no.
fn switch(labels: &Labels, name: &str, of: &str) -> Result<Option<bool>, Refusal> {
    match get(labels, name) {
        None => Ok(None),
        Some("false") => Ok(Some(false)),
        Some("true") => Ok(Some(true)),
        Some(other) => Err(Refusal::new(
            format!("{name}={other} says nothing"),
            format!("it is `true` for {of}, else leave it out: {name}=true"),
        )),
    }
}

/// The container asks for the mesh and would start without it.
fn no_service(lonely: &str) -> Refusal {
    Refusal::new(
        format!("there is a label or annotation {lonely}, and none that names the service"),
        format!("add {SERVICE}=DEPLOYMENT/SERVICE, or leave {lonely} out"),
    )
}

/// A member by the labels that name the service.
fn service(labels: &Labels, sources: &Sources) -> Result<Option<Member>, Refusal> {
    if let Some(text) = labels.get(SERVICE) {
        let service = text.parse().map_err(|e| {
            Refusal::new(
                format!("{SERVICE}={text}: {e}"),
                format!("the label or annotation is DEPLOYMENT/SERVICE: {SERVICE}=shop/db"),
            )
        })?;
        return Ok(Some(Member::of(service)));
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
        Some(Member { client: found.once, release_variable: found.release_variable, ..Member::of(service) })
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
    release_variable: Option<&'static str>,
}

impl<'a> Found<'a> {
    /// A container of a service of which nothing else is said.
    const fn of(deployment: String, service: &'a str) -> Self {
        Self { deployment, service, once: false, release_variable: None }
    }
}

/// `defaultLabels` of Coolify's bootstrap/helpers/docker.php. A preview of a pull request is not the deployment.
fn coolify(labels: &Labels) -> Option<Found<'_>> {
    if get(labels, "coolify.pullRequestId").is_some_and(|id| id != "0") {
        return None;
    }
    let deployment = format!("{}-{}", get(labels, "coolify.projectName")?, get(labels, "coolify.environmentName")?);
    let service = get(labels, "coolify.serviceName").or_else(|| get(labels, "coolify.resourceName"))?;
    Some(Found::of(deployment, service))
}

/// `default_labels` of Kamal's lib/kamal/configuration/role.rb; the variable is of its lib/kamal/commands/app.rb.
fn kamal(labels: &Labels) -> Option<Found<'_>> {
    let app = get(labels, "service")?;
    let deployment = get(labels, "destination").map_or_else(|| app.to_owned(), |to| format!("{app}-{to}"));
    Some(Found { release_variable: Some("KAMAL_VERSION"), ..Found::of(deployment, get(labels, "role")?) })
}

/// Dokku's documentation, «Docker container labels».
fn dokku(labels: &Labels) -> Option<Found<'_>> {
    let once = get(labels, "com.dokku.container-type").is_some_and(|kind| kind != "deploy");
    let deployment = get(labels, "com.dokku.app-name")?.to_owned();
    Some(Found { once, ..Found::of(deployment, get(labels, "com.dokku.process-type")?) })
}

/// `extra_labels` of Nomad's Docker driver, which writes them only if configured so.
fn nomad(labels: &Labels) -> Option<Found<'_>> {
    let deployment = get(labels, "com.hashicorp.nomad.job_name")?.to_owned();
    Some(Found::of(deployment, get(labels, "com.hashicorp.nomad.task_name")?))
}

/// Only in a stack: a service without one has nothing that could be a deployment.
fn swarm(labels: &Labels) -> Option<Found<'_>> {
    let stack = get(labels, "com.docker.stack.namespace")?;
    let service = get(labels, "com.docker.swarm.service.name")?.strip_prefix(stack)?.strip_prefix('_')?;
    Some(Found::of(stack.to_owned(), service))
}

/// Compose writes project and service into the images that it builds too (`getImageBuildLabels` of its pkg/compose/build.go); only
/// `oneoff` shows that Compose runs the container.
fn compose(labels: &Labels) -> Option<Found<'_>> {
    let once = get(labels, "com.docker.compose.oneoff")? != "False";
    let deployment = get(labels, "com.docker.compose.project")?.to_owned();
    Some(Found { once, ..Found::of(deployment, get(labels, "com.docker.compose.service")?) })
}

/// A label that isn't empty.
fn get<'a>(labels: &'a Labels, name: &str) -> Option<&'a str> {
    labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
