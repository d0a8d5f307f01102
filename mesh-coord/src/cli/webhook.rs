//! The flags of `serve` for the webhook.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};
use mesh_model::record::ACTIONS;

use crate::webhook::{Address, REFUSED, Target, Webhook, read_key};

#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    /// POST each new entry of the audit to this URL
    #[arg(long = "webhook", value_name = "URL", requires = "secret")]
    address: Option<Address>,
    /// The file with the secret that signs what is posted
    #[arg(long = "webhook-secret", value_name = "FILE", requires = "address")]
    secret: Option<PathBuf>,
    /// Only these actions; `refused` for all that was refused
    #[arg(long = "webhook-events", value_name = "ACTION", requires = "address", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(ACTIONS.into_iter().chain([REFUSED])), hide_possible_values = true)]
    events: Vec<String>,
    /// The certificates of authorities that the receiver's is one of [default: the system's]
    #[arg(long = "webhook-ca", value_name = "FILE", requires = "address")]
    authorities: Option<PathBuf>,
}

impl WebhookArgs {
    /// The webhook, if one is wanted; `place`: the file with what has arrived.
    pub(super) fn open(self, place: PathBuf) -> Result<Option<Webhook>> {
        let (Some(address), Some(secret)) = (self.address, self.secret) else { return Ok(None) };
        let wanted = Some(self.events).filter(|events| !events.is_empty());
        Ok(Some(Webhook {
            target: Target::new(address, self.authorities.as_deref())?,
            key: read_key(&secret)?,
            wanted: wanted.map(|events| events.into_iter().collect()),
            place,
        }))
    }
}
