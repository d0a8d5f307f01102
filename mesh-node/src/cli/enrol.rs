//! How this machine becomes a runner: the options of `join` and `up`, and what comes of them.

mod arguments;
mod error;
mod proxy;
mod token;

use clap::Args;
use mesh_link::Url;
use mesh_process::secrets::{self, TokenArgument};
use mesh_proto::{Label, message::Switches};
use zeroize::Zeroizing;

use self::{
    arguments::{EndpointArgument, Place, parse_port, parse_yes},
    error::JoinError,
    proxy::ProxyArgument,
    token::{read_token, urls_of},
};
use super::{Context, output::Failure};
use crate::{
    agent::{self, Application, Flags, Identity, Purpose, Settings},
    config::{self, Config, Endpoint, LaneCount, MetricsAt},
    state::StateDir,
};

/// The variable that may hold the token: every user of the machine can read arguments.
const TOKEN_VARIABLE: &str = "MESH_TOKEN";

#[derive(Debug, Args)]
pub(super) struct Enrol {
    /// The coordinator's URL, https://HOST:PORT, if the token doesn't carry it; separate several with commas. Only needed to join
    #[arg(value_name = "URL", value_parser = Place::parse)]
    coordinator: Option<Place>,
    /// The join token: `-` reads it from standard input, @FILE from a file; the default is $MESH_TOKEN. Only needed to join
    #[arg(value_name = "TOKEN", value_parser = TokenArgument::parse)]
    token: Option<TokenArgument>,
    /// The runner's name; the default is the host's name
    #[arg(long, value_name = "NAME")]
    name: Option<Label>,
    /// The machine's provider, shown to people; the default is `default`
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<Label>,
    /// The UDP port, or 0 for any; the default is 51820. The agent remembers it
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    listen: Option<u16>,
    /// Where other runners reach this one, instead of at its interfaces' addresses: an address or a name, which the agent resolves
    /// every minute; `auto:PORT` for a port that is forwarded from the address that relays see; `auto` returns to the interfaces. The
    /// agent remembers it
    #[arg(long, value_name = "HOST:PORT", value_parser = EndpointArgument::parse)]
    endpoint: Vec<EndpointArgument>,
    /// Have the router forward a port to this machine, by PCP or NAT-PMP; `--map-port=no` ends that. The agent remembers it
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = parse_yes)]
    map_port: Option<bool>,
    /// The HTTP proxy to the coordinator and to relays: http://HOST:PORT, @FILE with http://USER:PASSWORD@HOST:PORT in it, `none`, or
    /// `auto`, the default: $HTTPS_PROXY. The agent remembers it
    #[arg(long, value_name = "PROXY", value_parser = ProxyArgument::parse)]
    proxy: Option<ProxyArgument>,
    /// Serve /metrics by plain HTTP at this address, without a token: best one of loopback, such as 127.0.0.1:9744; `no` ends that.
    /// The agent remembers it
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<MetricsAt>,
    /// How many threads seal and open packets, from 1 to 8; the default is half of the processors, at most 8. The agent remembers it
    #[arg(long, value_name = "N")]
    lanes: Option<LaneCount>,
    /// Replace the runner that has the same name
    #[arg(long)]
    replace: bool,
}

/// What counts for one start of the agent, and isn't remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThisStart {
    pub(super) no_relay: bool,
    /// Those that no flag disables.
    pub(super) offloads: Switches,
}

/// Keeps this process's secrets from others, and takes the token out of the environment.
pub(super) fn begin() -> Option<Zeroizing<String>> {
    let variable = secrets::take_variable(TOKEN_VARIABLE);
    // Without dumps only root can still read its own /proc/self, which the agent needs.
    if nix::unistd::geteuid().is_root() {
        secrets::forbid_dumps();
    } else {
        secrets::forbid_core_files();
    }
    variable
}

impl Enrol {
    /// Makes this machine a runner, unless it is one.
    pub(super) async fn carry_out(
        &self,
        context: &Context,
        identity: &mut Identity,
        settings: &Settings,
        variable: Option<Zeroizing<String>>,
    ) -> Result<Purpose, Failure> {
        let state = &context.state;
        if identity.enrolment.is_some() {
            self.go_on(identity)?;
            keep(identity, state);
            return Ok(Purpose::Run);
        }
        let wish = match self.application(variable, settings) {
            Err(error @ JoinError::Nothing) => {
                return Err(context.agent().of_root().map_or_else(|| error.into(), Failure::from));
            }
            other => other?,
        };
        // Find out what would stop the agent before the token is spent.
        let ready = agent::prepare(settings)?;
        agent::enrol(state, identity, &settings.reach.endpoints, &wish).await?;
        drop(ready);
        Ok(Purpose::First)
    }

    /// The agent's settings. The flags that are remembered are stored in the identity.
    pub(super) fn settings(
        &self,
        now: ThisStart,
        state: &StateDir,
        identity: &mut Identity,
    ) -> Result<Settings, JoinError> {
        let named = |argument: &EndpointArgument| match argument {
            EndpointArgument::One(endpoint) => Some(endpoint.clone()),
            EndpointArgument::Auto => None,
        };
        let endpoints: Vec<Endpoint> = self.endpoint.iter().filter_map(named).collect();
        Endpoint::check(&endpoints)?;
        let proxy = self.proxy.as_ref().map(ProxyArgument::choice).transpose()?;
        let flags = Flags {
            no_relay: now.no_relay,
            listen: self.listen,
            proxy,
            metrics: self.metrics,
            lanes: self.lanes,
            endpoints: (!self.endpoint.is_empty()).then_some(endpoints),
            map_port: self.map_port,
            offloads: now.offloads,
        };
        identity.listen = flags.listen.or(identity.listen);
        identity.proxy = flags.proxy.clone().or(identity.proxy.take());
        identity.metrics = flags.metrics.or(identity.metrics);
        identity.lanes = flags.lanes.or(identity.lanes);
        identity.map_port = flags.map_port.unwrap_or(identity.map_port);
        if let Some(endpoints) = &flags.endpoints {
            identity.endpoints.clone_from(endpoints);
        }
        let file = Config::agent(state).unwrap_or_else(|error| {
            tracing::warn!("until that is put right, the flags and the defaults count instead of [agent]: {error}");
            config::Agent::default()
        });
        for line in flags.against(&file, identity) {
            tracing::warn!(configuration = %Config::path(state).display(), "{line}");
        }
        proxy::warn_of_open(&Config::path(state), &file, &flags, identity);
        Ok(Settings::choose(&flags, &file, identity))
    }

    /// The URLs and the token that were given.
    fn given(&self) -> Result<(Option<&[Url]>, Option<&TokenArgument>), JoinError> {
        match (&self.coordinator, &self.token) {
            (None, token) => Ok((None, token.as_ref())),
            (Some(Place::Urls(urls)), token) => Ok((Some(urls), token.as_ref())),
            (Some(Place::Token(token)), None) => Ok((None, Some(token))),
            (Some(Place::Token(_)), Some(_)) => Err(JoinError::NotAUrl),
        }
    }

    /// Continues as a runner that has joined. The coordinator may have moved, but not be another one.
    pub(super) fn go_on(&self, identity: &mut Identity) -> Result<(), JoinError> {
        let Some(enrolment) = &mut identity.enrolment else { return Ok(()) };
        let (urls, token) = self.given()?;
        // Only the argument counts: a token in the environment may be old.
        let token = token.map(read_token).transpose()?;
        if let Some(token) = &token
            && token.fingerprint != enrolment.fingerprint
        {
            let (coordinator, name) = (enrolment.shown(), enrolment.name.clone());
            return Err(JoinError::OtherCoordinator { coordinator, name });
        }
        if let Some(name) = self.name.as_ref().filter(|name| **name != enrolment.name) {
            return Err(JoinError::OtherName { known: enrolment.name.clone(), given: name.clone() });
        }
        if let (Some(given), Some(known)) = (&self.provider, &enrolment.provider)
            && given != known
        {
            return Err(JoinError::OtherProvider { known: known.clone(), given: given.clone() });
        }
        let new = match (urls, token) {
            (Some(urls), _) => urls.to_vec(),
            (None, Some(token)) => urls_of(&token)?,
            (None, None) => vec![],
        };
        if !new.is_empty() {
            enrolment.coordinators = new;
        }
        Ok(())
    }

    fn application(&self, variable: Option<Zeroizing<String>>, settings: &Settings) -> Result<Application, JoinError> {
        let (urls, token) = self.given()?;
        let argument = match (token, variable) {
            (Some(argument), _) => argument.clone(),
            (None, Some(token)) => token.into(),
            (None, None) if urls.is_none() => return Err(JoinError::Nothing),
            (None, None) => return Err(JoinError::NoToken),
        };
        let token = read_token(&argument)?;
        let coordinators = match urls {
            Some(urls) => urls.to_vec(),
            None => urls_of(&token)?,
        };
        if coordinators.is_empty() {
            return Err(JoinError::NoUrl);
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let provider = match &self.provider {
            Some(provider) => provider.clone(),
            None => "default".parse()?,
        };
        let proxies = settings.proxies.clone();
        Ok(Application { coordinators, token, name, provider, proxies, replace: self.replace })
    }
}

/// Stores the identity of a runner that has joined. Only the options given now can be new.
pub(super) fn keep(identity: &Identity, state: &StateDir) {
    if let Err(error) = identity.save(state) {
        tracing::warn!("{}: the options given now are lost at the next start", error.error);
    }
}

/// A runner's name made from the host's name.
fn host_name() -> Result<Label, JoinError> {
    let name = nix::unistd::gethostname().unwrap_or_default();
    label(&name.to_string_lossy()).ok_or(JoinError::HostName(name))
}

/// The first label of a host name, with other characters than a label's replaced by `-`.
fn label(host: &str) -> Option<Label> {
    let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let label: String = first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    label.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests;
