//! `mesh-node cni`, installed as `mesh` among the CNI plugins: the last one of a chain (CNI specification 0.3.1 to 1.1.0). It
//! attaches what the chain has made a namespace for, and passes the chain's result on as it came. By CNI there are neither
//! names nor variables.

mod call;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    os::fd::AsFd as _,
    path::Path,
    process::ExitCode,
};

use mesh_proto::message::Refusal;
use serde_json::{Value, json};

use self::call::{Call, Failure, SUPPORTED};
use crate::{
    config::{Config, Sources},
    containers::{ContainerId, Member},
    local::{self, Request, target},
    oci,
};

/// What this program is called as a plugin.
const NAME: &str = "mesh";
/// What the specification reserves for plugins' own failures begins here.
const OWN: u32 = 100;
/// «Try again later».
const LATER: u32 = 11;
/// «The plugin is not available».
const UNAVAILABLE: u32 = 50;

/// Whether this program was called as a plugin.
pub(crate) fn is_called(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let program = arguments.next().unwrap_or_default();
    Path::new(&program).file_name() == Some(OsStr::new(NAME)) && env::var_os("CNI_COMMAND").is_some()
}

/// Does what `$CNI_COMMAND` says.
pub(crate) fn main() -> ExitCode {
    let (version, result) = match env::var("CNI_COMMAND").as_deref() {
        Ok("VERSION") => (SUPPORTED[SUPPORTED.len() - 1].to_owned(), Ok(Some(json!({"supportedVersions": SUPPORTED})))),
        Ok(command) => match Call::read(io::stdin().lock(), |name| env::var(name).ok()) {
            Ok(call) => (call.version.clone(), carry_out(command, &call)),
            // What can't be read has brought nothing in, or its namespace's end takes it out: nobody is kept from taking it down.
            Err(failure) if command == "DEL" => {
                oci::note(&failure.refusal);
                return ExitCode::SUCCESS;
            }
            Err(failure) => (SUPPORTED[0].to_owned(), Err(failure)),
        },
        Err(_) => (SUPPORTED[0].to_owned(), Err(Failure::environment("CNI_COMMAND"))),
    };
    let (answer, code) = match result {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(answer)) => (answer, ExitCode::SUCCESS),
        Err(Failure { code, refusal }) => {
            let details = refusal.hint.unwrap_or_default();
            (json!({"code": code, "msg": format!("mesh: {}", refusal.error), "details": details}), ExitCode::FAILURE)
        }
    };
    let mut answer = answer;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("cniVersion".into(), version.into());
    }
    match writeln!(io::stdout().lock(), "{answer}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn carry_out(command: &str, call: &Call) -> Result<Option<Value>, Failure> {
    match command {
        "ADD" => add(call).map(Some),
        "DEL" => {
            // Whoever takes a container down is not to be kept from it; the agent finds out by itself.
            if let Err(refusal) = call.id().map_err(|failure| failure.refusal).and_then(|id| detach(call, id)) {
                oci::note(&refusal);
            }
            Ok(None)
        }
        "CHECK" => check(call).map(|()| None),
        "STATUS" => match containers(call) {
            Ok(_) => Ok(None),
            Err(refusal) => Err(Failure { code: UNAVAILABLE, refusal }),
        },
        "GC" => collect(call).map(|()| None).map_err(|refusal| Failure { code: LATER, refusal }),
        other => Err(Failure::new(4, format!("CNI_COMMAND={other} is not known here"))),
    }
}

fn add(call: &Call) -> Result<Value, Failure> {
    let Some(result) = call.previous.clone() else {
        return Err(Failure::new(7, "there is no prevResult: put this plugin behind others, in a list of `plugins`"));
    };
    let config = Config::load(&call.state);
    let sources = Sources::possible(config.as_ref().map(|config| &config.containers));
    let Some(member) = call.member(&sources)? else { return Ok(result) };
    config.map_err(|refusal| Failure { code: LATER, refusal })?;
    let attached = attach(call, &member)?;
    match oci::settle(&call.state, &member, attached) {
        Ok(_) => Ok(result),
        // Most of what stands in the way doesn't for ever: no agent, no coordinator, nothing declared yet.
        Err(refusal) => Err(Failure { code: LATER, refusal }),
    }
}

/// What is wrong with the call is a failure; what the agent refuses is for the configuration to judge.
fn attach(call: &Call, member: &Member) -> Result<Result<(), Refusal>, Failure> {
    let id = call.id()?;
    let path = call.namespace.clone().ok_or_else(|| Failure::environment("CNI_NETNS"))?;
    let (_, namespace) = target::namespace(&path).map_err(|refusal| Failure { code: 3, refusal })?;
    let Member { service, client } = member.clone();
    let request = Request::AttachContainer { id, service, client, hosts: None, namespace: Some(path) };
    Ok(oci::agent(&call.state).ask::<local::Attach>(&request, &[namespace.as_fd()]).map(drop))
}

fn check(call: &Call) -> Result<(), Failure> {
    // A mistake in the configuration is no reason to take a pod down that may be none of ours.
    let sources = Config::load(&call.state).map(|config| config.containers.sources).unwrap_or_default();
    let Some(member) = call.member(&sources)? else { return Ok(()) };
    let id = call.id()?;
    let (is_there, code) = match containers(call) {
        Ok(all) if all.contains(&id) => (Ok(()), OWN),
        Ok(_) => (Err(Refusal::bare(format!("{id} is not attached any more"))), OWN),
        Err(refusal) => (Err(refusal), LATER),
    };
    // What may start without the mesh may go on without it.
    oci::settle(&call.state, &member, is_there).map(drop).map_err(|refusal| Failure { code, refusal })
}

/// Lets go of all of this network's containers but those that the runtime names.
fn collect(call: &Call) -> Result<(), Refusal> {
    let (prefix, valid) = (call.prefix(), call.valid());
    let all = containers(call)?;
    let stale = all.into_iter().filter(|id| id.to_string().starts_with(&prefix) && !valid.contains(&id.to_string()));
    stale.into_iter().try_for_each(|id| detach(call, id))
}

fn containers(call: &Call) -> Result<Vec<ContainerId>, Refusal> {
    oci::agent(&call.state).ask::<local::Containers>(&Request::Containers, &[]).map(|answer| answer.containers)
}

fn detach(call: &Call, id: ContainerId) -> Result<(), Refusal> {
    oci::detach(&call.state, id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn with_a_wrong_configuration_no_pod_starts_without_the_mesh_that_could_be_a_member() {
        let scratch = Scratch::new("cni-config");
        fs::write(scratch.0.join("config.toml"), "[containers]\nfial = \"open\"\n").unwrap();
        let add = |annotations: Value, arguments: &'static str| {
            let network = json!({
                "cniVersion": "1.0.0", "name": "net", "state": scratch.0, "prevResult": {"ips": []},
                "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
            });
            let variable = |name: &str| (name == "CNI_ARGS").then(|| arguments.to_owned());
            add(&Call::read(network.to_string().as_bytes(), variable).unwrap())
        };
        let nomad = "IgnoreUnknown=1;NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web";
        for refused in [add(json!({"mesh.service": "shop/db"}), ""), add(json!({}), nomad)] {
            let failure = refused.unwrap_err();
            assert!(failure.code == LATER && failure.refusal.error.contains("config.toml, line 2: "), "{failure:?}");
        }
        assert_eq!(add(json!({"app": "web"}), "IgnoreUnknown=1;K8S_POD_NAME=web"), Ok(json!({"ips": []})));
    }
}
