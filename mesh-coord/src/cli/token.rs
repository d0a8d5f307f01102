//! `token create`, `token list`, `token revoke`.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use mesh_link::Method;
use mesh_model::{AdminCommand, NewPurpose, NewToken, Outcome, Role};
use mesh_proto::{Label, TokenId};

use super::{
    Listing,
    client::Reach,
    numbers,
    output::{names, note, print, print_json, print_table, print_versioned},
    time, wrong_usage,
};
use crate::api;

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Create a token and print only the token. Anyone who has it can use it
    Create(Create),
    /// List the tokens, without their secrets
    List(Listing),
    /// Invalidate a token; the runners that it enrolled stay, unless --with-nodes
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").args(["teams", "deployments", "any"]).multiple(false))]
#[command(group = ArgGroup::new("purpose").args(["teams", "deployments", "any", "admin", "relay"]).required(true).multiple(true))]
pub(super) struct Create {
    /// The runners may host these teams' deployments; with --admin: the token is valid for this team only
    #[arg(long = "team", value_name = "TEAM", num_args = 1.., value_delimiter = ',')]
    teams: Vec<Label>,
    /// The runners may host these deployments
    #[arg(long = "deployment", value_name = "DEPLOYMENT", num_args = 1.., value_delimiter = ',')]
    deployments: Vec<Label>,
    /// The runners may host every deployment
    #[arg(long)]
    any: bool,
    /// A token for remote administration, with --url
    #[arg(long, conflicts_with_all = ["deployments", "any", "uses"])]
    admin: bool,
    /// What the admin token allows
    #[arg(long, value_name = "ROLE", requires = "admin", default_value = "admin")]
    role: RoleName,
    /// To run one relay with this name, with `mesh-coord relay`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["teams", "deployments", "any", "admin", "uses", "ephemeral"])]
    relay: Option<Label>,
    /// How long it is valid: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::parse)]
    ttl: Duration,
    /// How many runners it can enrol
    #[arg(long, default_value = "1", value_parser = numbers::uses)]
    uses: u32,
    /// The runners that it enrols are removed ten minutes after the coordinator last heard from them
    #[arg(long, conflicts_with = "admin")]
    ephemeral: bool,
    /// A name for it, shown by `token list` and the audit
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON: the token and its properties
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// To read
    Viewer,
    /// Also to apply and delete deployments, to give and take trust, and to drain
    Operator,
    /// Everything
    Admin,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// As `token list` shows it
    #[arg(value_name = "ID")]
    token: TokenId,
    /// Also remove the runners that it enrolled
    #[arg(long)]
    with_nodes: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: Token) -> Result<()> {
    match command {
        Token::Create(args) => create(args).await,
        Token::List(args) => list(args).await,
        Token::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: Create) -> Result<()> {
    let uses = args.uses;
    let program = match (args.admin, &args.relay) {
        (true, _) => None,
        (false, Some(_)) => Some("mesh-coord relay --public ADDRESS"),
        (false, None) => Some("mesh-node up"),
    };
    let purpose = if let Some(name) = args.relay {
        NewPurpose::Relay { name }
    } else if args.admin {
        let mut teams = args.teams.into_iter();
        let team = teams.next();
        if teams.next().is_some() {
            wrong_usage("an admin token is good for one team, or for all: give --team once");
        }
        match args.role {
            RoleName::Viewer => NewPurpose::Role { role: Role::Viewer, team },
            RoleName::Operator => NewPurpose::Role { role: Role::Operator, team },
            RoleName::Admin => NewPurpose::Admin { team },
        }
    } else if args.any {
        NewPurpose::JoinAny { uses }
    } else if args.teams.is_empty() {
        NewPurpose::JoinDeployments { deployments: args.deployments.into_iter().collect(), uses }
    } else {
        NewPurpose::JoinTeams { teams: args.teams.into_iter().collect::<BTreeSet<_>>(), uses }
    };
    let wish = NewToken { purpose, ttl: args.ttl.as_secs(), ephemeral: args.ephemeral, name: args.name };
    let made: api::NewToken = args.reach.request(Method::POST, "tokens", Some(&wish)).await?;
    for warning in &made.warnings {
        note(&format!("warning: {warning}"));
    }
    if args.json {
        return print_json(&made);
    }
    print(&made.token)?;
    if let Some(program) = program {
        let Line { command, doubt } = line_for(program, &made, args.reach.url());
        let root = if program.starts_with("mesh-node") { ", as root" } else { "" };
        let doubt = doubt.map(|doubt| format!("\n{doubt}")).unwrap_or_default();
        note(&format!("on the machine{root}:  {command}{doubt}"));
    }
    Ok(())
}

/// What to type on another machine.
pub(super) struct Line {
    pub(super) command: String,
    /// What in it may be wrong.
    pub(super) doubt: Option<&'static str>,
}

/// The line with which the other machine uses a token.
pub(super) fn line_for(program: &str, made: &api::NewToken, reached: Option<String>) -> Line {
    let token = &made.token;
    match url_before(made, reached) {
        None => Line { command: format!("{program} {token}"), doubt: None },
        Some(url) => Line {
            command: format!("{program} {url} {token}"),
            doubt: Some("(the URL is a guess: `serve --advertise URL` puts it into tokens)"),
        },
    }
}

/// The URL to type before a token that carries none. An operator who sees a wrong guess knows what to correct.
pub(super) fn url_before(made: &api::NewToken, reached: Option<String>) -> Option<String> {
    let guess = || reached.or_else(|| made.guess.clone()).unwrap_or_else(|| "https://HOST:7443".to_owned());
    made.urls.is_empty().then(guess)
}

async fn list(args: Listing) -> Result<()> {
    let tokens: api::Tokens = args.reach.get("tokens").await?;
    if args.json {
        return print_json(&tokens);
    }
    let row = |token: api::Token| {
        let (uses, expires) = match token.state.as_str() {
            "good" => {
                (token.uses_left.map(|uses| uses.to_string()), format!("in {}", time::show(token.expires_seconds)))
            }
            _ => (None, "-".to_owned()),
        };
        let nodes: Vec<&str> = token.nodes.iter().map(|name| &**name).collect();
        vec![
            token.id.to_string(),
            token.name.unwrap_or_else(|| "-".to_owned()),
            token.kind,
            token.scope,
            token.state,
            uses.unwrap_or_else(|| "-".to_owned()),
            expires,
            nodes.join(", "),
        ]
    };
    let header = ["id", "name", "kind", "scope", "state", "uses left", "expires", "nodes"];
    print_table(&header, tokens.tokens.into_iter().map(row).collect(), "no tokens")
}

async fn revoke(args: Revoke) -> Result<()> {
    let command = AdminCommand::RevokeToken { token: args.token, with_nodes: args.with_nodes };
    if args.json {
        return print_versioned(&args.reach.order(&command, Some).await?);
    }
    let read = |outcome| match outcome {
        Outcome::TokenRevoked { removed, standing, .. } => Some((removed, standing)),
        _ => None,
    };
    let (removed, standing) = args.reach.order(&command, read).await?;
    if removed.is_empty() {
        print(&format!("{} is revoked", args.token))?;
    } else {
        print(&format!("{} is revoked, and removed are the nodes that it enrolled: {}", args.token, names(&removed)))?;
    }
    if !standing.is_empty() {
        note(&format!(
            "the nodes that it enrolled stay: {} (`mesh-coord token revoke {} --with-nodes` removes them all, \
             `mesh-coord node remove NAME` one)",
            names(&standing),
            args.token
        ));
    }
    Ok(())
}
