//! `relays`, and `relay add`, `relay remove`, `relay coturn`.

use std::{fs::File, io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use mesh_link::Method;
use mesh_model::{AdminCommand, NewRelay, Outcome};
use mesh_proto::{
    Label,
    relay::{Place, RelaySecret, wire::RelayPublic},
    token::Fingerprint,
};
use zeroize::Zeroizing;

use super::{
    Listing,
    client::Reach,
    output::{note, print, print_json, print_table, print_versioned},
};
use crate::{
    api::{self, RelayState},
    relay_secrets,
};

#[derive(Debug, Subcommand)]
pub(super) enum Managed {
    /// Add a TURN server that is there, such as coturn. It is tried first: two allocations, and a datagram between them
    Add(Box<Add>),
    /// Remove a relay: runners leave it at once
    Remove(Remove),
    /// Print a closed configuration for coturn, with a new secret
    Coturn(Coturn),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// A name for it, as in fra-1
    name: Label,
    /// Where it takes datagrams
    #[arg(long, value_name = "HOST:PORT", required = true, num_args = 1..)]
    turn: Vec<Place>,
    /// Where it takes TCP connections
    #[arg(long, value_name = "HOST:PORT", num_args = 1..)]
    tcp: Vec<Place>,
    /// Where it takes TLS connections; needs --fingerprint
    #[arg(long, value_name = "HOST:PORT", num_args = 1.., requires = "fingerprint")]
    turns: Vec<Place>,
    /// The file with its secret (coturn's static-auth-secret), as in @/etc/mesh/fra-1
    #[arg(long, value_name = "@FILE")]
    secret: SecretFile,
    /// The fingerprint of its TLS key: SHA-256 of its SubjectPublicKeyInfo, as base64url
    // One in 64 begins with a hyphen.
    #[arg(long, value_name = "FINGERPRINT", allow_hyphen_values = true)]
    fingerprint: Option<Fingerprint>,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Its name, as `relays` shows it
    name: Label,
    #[command(flatten)]
    reach: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Coturn {
    /// The name that it will have, as in fra-1
    name: Label,
    /// The address of its machine, at which runners reach it, of an interface of that machine
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    address: Vec<std::net::IpAddr>,
}

/// A file with a secret. Arguments can be seen by every user of a machine, so they hold no secret.
#[derive(Debug, Clone)]
struct SecretFile(PathBuf);

impl std::str::FromStr for SecretFile {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let path = text.strip_prefix('@').filter(|path| !path.is_empty());
        path.map(|path| Self(path.into())).ok_or("give a file that holds it, as in @/etc/mesh/fra-1")
    }
}

impl SecretFile {
    fn read(&self) -> Result<RelaySecret> {
        let shown = self.0.display();
        let mut text = Zeroizing::new(String::new());
        let file = File::open(&self.0).with_context(|| format!("{shown} cannot be opened"))?;
        file.take(4096).read_to_string(&mut text).with_context(|| format!("{shown} cannot be read"))?;
        text.parse().with_context(|| format!("{shown} holds what is"))
    }
}

pub(super) async fn run(command: Managed) -> Result<()> {
    match command {
        Managed::Add(args) => add(*args).await,
        Managed::Remove(args) => remove(args).await,
        Managed::Coturn(args) => coturn(&args),
    }
}

pub(super) async fn list(args: Listing) -> Result<()> {
    let relays: api::Relays = args.reach.get("relays").await?;
    if args.json {
        return print_json(&relays);
    }
    relays.lacking.iter().for_each(|lacking| note(&lacking.words()));
    let row = |relay: api::Relay| {
        let of = |scheme: &'static str, places: &[Place]| -> Vec<String> {
            places.iter().map(|place| format!("{scheme} {place}")).collect()
        };
        let places = [of("udp", &relay.udp), of("tcp", &relay.tcp), of("tls", &relay.tls)].concat();
        let kind = match relay.kind {
            api::RelayWord::Own => "mesh-coord",
            api::RelayWord::Turn => "TURN",
        };
        let state = match relay.state {
            RelayState::Online => "online",
            RelayState::Silent => "silent",
            RelayState::Added => "-",
            RelayState::NoSecret => "its secret is lost",
        };
        let agent = relay.agent.filter(|version| !version.is_empty()).unwrap_or_else(|| "-".to_owned());
        vec![
            relay.id.to_string(),
            relay.name.to_string(),
            kind.to_owned(),
            state.to_owned(),
            relay.nodes.to_string(),
            places.join(", "),
            agent,
        ]
    };
    let lost = relays.relays.iter().any(|relay| relay.state == RelayState::NoSecret);
    let none = "no relays: run one with `mesh-coord token create --relay NAME`, or add a TURN server with \
                `mesh-coord relay add`";
    print_table(
        &["id", "name", "kind", "state", "nodes", "addresses", "version"],
        relays.relays.into_iter().map(row).collect(),
        none,
    )?;
    if lost {
        note(&format!(
            "no runner uses a relay whose secret is lost: restore {} with the database, or remove the relay and add it again",
            relay_secrets::FILE
        ));
    }
    Ok(())
}

async fn add(args: Add) -> Result<()> {
    let secret = args.secret.read()?;
    let Add { name, turn: udp, tcp, turns: tls, fingerprint, reach, json, .. } = args;
    let relay = NewRelay { name, public: RelayPublic { udp, tcp, tls, fingerprint } };
    let body = api::NewRelay { relay, secret: secret.expose().to_owned() };
    let done: api::Done = reach.request(Method::POST, "relays", Some(&body)).await?;
    if json {
        return print_versioned(&done.outcome);
    }
    let Outcome::RelayAdded { relay, name } = done.outcome else {
        anyhow::bail!("the coordinator has answered another command: is its version another one?")
    };
    print(&format!("{relay} {name} is added: it was tried from one allocation to another"))
}

async fn remove(args: Remove) -> Result<()> {
    let command = AdminCommand::RemoveRelay { name: args.name };
    if args.json {
        return print_versioned(&args.reach.order(&command, Some).await?);
    }
    let read = |outcome| match outcome {
        Outcome::RelayRemoved { relay, name, left } => Some((relay, name, left)),
        _ => None,
    };
    let (relay, name, left) = args.reach.order(&command, read).await?;
    print(&format!("{relay} {name} is removed"))?;
    if left == 0 {
        note("it was the last one: two runners of which neither can be reached directly have no way to each other now");
    }
    Ok(())
}

fn coturn(args: &Coturn) -> Result<()> {
    let addresses: Vec<String> = args.address.iter().map(ToString::to_string).collect();
    ensure!(
        args.address.iter().all(|address| !address.is_unspecified() && !address.is_multicast()),
        "--address takes the address of one machine"
    );
    let secret = relay_secrets::draw()?;
    print(&closed(&args.name, &addresses, &secret))?;
    let name = &args.name;
    let address = addresses.first().map_or("ADDRESS", String::as_str);
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    if addresses.is_empty() {
        note("put the machine's address in the place of each ADDRESS (--address does that)");
    }
    note(&format!(
        "on its machine: save this as /etc/turnserver.conf, `chown root:turnserver` and `chmod 640` it, then `systemctl \
         restart coturn`; its firewall has to let UDP and TCP through to port 3478, and to no other\n\
         then here: put the value of static-auth-secret into a file of mode 600, and\n  \
         mesh-coord relay add {name} --turn {host}:3478 --tcp {host}:3478 --secret @FILE"
    ));
    Ok(())
}

/// The configuration of turnserver(1). It relays from one of its allocations to another, and to nothing else.
fn closed(name: &Label, addresses: &[String], secret: &RelaySecret) -> String {
    let placeholder = ["ADDRESS".to_owned()];
    let addresses = if addresses.is_empty() { &placeholder } else { addresses };
    let each = |key: &str| addresses.iter().map(|address| format!("{key}={address}\n")).collect::<String>();
    format!(
        "# coturn as the relay {name} of a mesh: it relays between its own allocations, and nowhere else.\n\
         {listening}{relay}\
         listening-port=3478\n\
         realm=mesh\n\
         # Runners log in with what the coordinator makes of this secret.\n\
         use-auth-secret\n\
         static-auth-secret={secret}\n\
         # Its own addresses are the only peers.\n\
         {allowed}\
         denied-peer-ip=0.0.0.0-255.255.255.255\n\
         denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n\
         stale-nonce=600\n\
         user-quota=8\n\
         # Answers to strangers are short.\n\
         no-rfc5780\n\
         no-stun-backward-compatibility\n\
         response-origin-only-with-rfc5780\n\
         no-software-attribute\n\
         no-multicast-peers\n\
         no-cli\n\
         no-dtls\n\
         # With a certificate, runners without UDP get through at port 443 (--turns, --fingerprint):\n\
         # tls-listening-port=443\n\
         # cert=/etc/coturn/certificate.pem\n\
         # pkey=/etc/coturn/key.pem\n\
         no-tls\n",
        listening = each("listening-ip"),
        relay = each("relay-ip"),
        allowed = each("allowed-peer-ip"),
        secret = secret.expose(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_and_never_from_an_argument() {
        for bad in ["north", "@", ""] {
            assert!(bad.parse::<SecretFile>().is_err(), "{bad}");
        }
        let scratch = crate::data::scratch::Scratch::new();
        let path = scratch.path().join("secret");
        std::fs::write(&path, "north\n").unwrap();
        let read = |path: &std::path::Path| format!("@{}", path.display()).parse::<SecretFile>().unwrap().read();
        assert_eq!(read(&path).unwrap().expose(), "north");
        std::fs::write(&path, "two words").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("not a relay's secret") && !error.contains("two words"), "{error}");
    }

    #[test]
    fn the_configuration_denies_all_but_the_relays_own_addresses() {
        let name = "fra-1".parse().unwrap();
        let secret: RelaySecret = "north".parse().unwrap();
        let text = closed(&name, &["203.0.113.9".to_owned(), "2001:db8::9".to_owned()], &secret);
        for line in [
            "allowed-peer-ip=203.0.113.9",
            "allowed-peer-ip=2001:db8::9",
            "relay-ip=2001:db8::9",
            "denied-peer-ip=0.0.0.0-255.255.255.255",
            "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "static-auth-secret=north",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(closed(&name, &[], &secret).contains("allowed-peer-ip=ADDRESS\n"));
    }
}
