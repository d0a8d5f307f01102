//! The files of the report.

use std::fs;

use mesh_process::secrets;
use serde_json::{Value, json};

use super::machine;
use crate::{
    config::Config,
    local::{self, Client, Request},
    state::StateDir,
};

/// A file of the report.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What it holds, for people.
    pub(super) about: &'static str,
    /// Its text, or why it is missing.
    pub(super) content: Result<String, String>,
}

/// Collects all parts. One that can't be had doesn't prevent the others.
pub(super) fn collect(state: &StateDir, agent: &Client<'_>) -> Vec<Part> {
    let part = |name, about, content| Part { name, about, content };
    vec![
        part("status.json", "the agent's state, with peers, paths, instances and counters", status(agent)),
        part("netcheck.json", "what is between this runner and the others", netcheck(agent)),
        part("denied.json", "refused connections: the callees and reasons, no addresses", denied(agent)),
        part("log.txt", "the end of the agent's log, without overlay addresses", log(agent)),
        part("config.toml", "the agent's configuration, without credentials of a proxy", config(state)),
        part("machine.txt", "versions, kernel, memory and limits", machine::machine()),
        part("state.txt", "the state directory's files by name, without their content", machine::files(state.path())),
    ]
}

impl Part {
    /// The file that says what is in the others.
    pub(super) fn readme(parts: &[Self]) -> Self {
        let lines = parts.iter().map(|part| match &part.content {
            Ok(_) => format!("{}: {}\n", part.name, part.about),
            Err(why) => format!("{}: missing: {why}\n", part.name),
        });
        let content = format!(
            "A report about a runner of mesh, by `mesh-node bugreport`.\n\n{}\nIt holds no key, no token and no address of a \
             service's clients. It does hold the names of\nservices and runners, and the addresses of this machine and of other \
             runners.\n",
            lines.collect::<String>()
        );
        Self { name: "README.txt", about: "what is in the other files", content: Ok(content) }
    }
}

fn status(agent: &Client<'_>) -> Result<String, String> {
    let mut status: Value = ask(agent, &Request::Status)?;
    without_user(&mut status);
    pretty(&status)
}

fn netcheck(agent: &Client<'_>) -> Result<String, String> {
    pretty(&ask::<Value>(agent, &Request::Netcheck)?)
}

/// A coordinator's URL may hold a user and a password.
fn without_user(status: &mut Value) {
    if let Some(url) = status.pointer_mut("/coordinator/url")
        && let Some(text) = url.as_str()
    {
        *url = starred(text).into();
    }
}

fn denied(agent: &Client<'_>) -> Result<String, String> {
    let local::Denied { denied, .. } = ask(agent, &Request::Denied)?;
    let named = |name: &str| if name.contains('/') { name.to_owned() } else { "(not a service)".to_owned() };
    let rows = denied.iter().map(|refused| {
        json!({
            "caller": named(&refused.caller),
            "callee": named(&refused.callee),
            "port": refused.port,
            "reason": refused.reason,
            "count": refused.count,
            "age_seconds": refused.age_seconds,
        })
    });
    pretty(&json!({ "denied": rows.collect::<Vec<_>>() }))
}

fn log(agent: &Client<'_>) -> Result<String, String> {
    let local::Log { lines, .. } = ask(agent, &Request::Log)?;
    // The agent has starred out what is secret.
    Ok(lines.iter().map(|line| line.clone() + "\n").collect())
}

fn config(state: &StateDir) -> Result<String, String> {
    let path = Config::path(state);
    match fs::read(&path) {
        Ok(bytes) => Ok(starred(&String::from_utf8_lossy(&bytes))),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn ask<T: serde::de::DeserializeOwned>(agent: &Client<'_>, request: &Request) -> Result<T, String> {
    agent.ask(request, &[]).map_err(|error| error.to_string())
}

fn pretty(value: &Value) -> Result<String, String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// A text without tokens and without what URLs log in with.
fn starred(text: &str) -> String {
    String::from_utf8_lossy(&secrets::starred(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn without_an_agent_the_rest_is_reported() {
        let scratch = Scratch::new("bugreport-parts");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        fs::write(Config::path(&state), "[agent]\nlisten = 0 # see https://u:secret@proxy:3128/ now\n").unwrap();
        fs::write(scratch.0.join("identity.json"), r#"{"private_key":"very private"}"#).unwrap();
        let parts = collect(&state, &Client::new(&state));
        let content = |name: &str| parts.iter().find(|part| part.name == name).unwrap().content.clone();
        assert!(content("status.json").is_err() && content("log.txt").is_err());
        assert!(content("config.toml").unwrap().contains("https://********@proxy:3128/ now"));
        assert!(content("state.txt").unwrap().contains("identity.json"));
        let all = parts.iter().filter_map(|part| part.content.clone().ok()).collect::<String>();
        assert!(!all.contains("secret") && !all.contains("very private"), "{all}");
    }
}
