//! What a relay is in its mesh, and the file that keeps it: after a restart it needs the coordinator for nothing.

use std::{fmt, fs, io};

use anyhow::{Context as _, Result, anyhow};
use mesh_link::{Method, Proxies, RequestError, Url};
use mesh_proto::{
    Label, RelayId,
    relay::{
        RelaySecret,
        wire::{RelayEnrol, RelayEnrolled, RelayPublic, Revoked},
    },
    token::{Fingerprint, Token},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::data::DataDirectory;

const FILE: &str = "relay.json";

/// A relay's place in its mesh.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(super) coordinators: Vec<Url>,
    pub(super) fingerprint: Fingerprint,
    pub(super) relay: RelayId,
    pub(super) name: Label,
    pub(super) credential: Zeroizing<String>,
    secret: Zeroizing<String>,
    /// Who was removed, as far as it has heard.
    pub(super) revoked: Vec<Revoked>,
}

impl Membership {
    /// Enrols by a relay token, and keeps what comes of it.
    ///
    /// # Errors
    /// If the coordinator can't be reached or refuses, or the disk fails.
    pub(crate) async fn enrol(
        data: &DataDirectory,
        urls: Vec<Url>,
        token: &Token,
        public: &RelayPublic,
        proxies: &Proxies,
    ) -> Result<Self> {
        let (stream, url) = mesh_link::connect_any(&urls, token.fingerprint, proxies).await?;
        let body = RelayEnrol { token: token.to_bare_text().to_string(), public: public.clone() };
        let (host, path) = (url.authority(), "/v1/relay/enrol");
        let answer = mesh_link::request(stream, &host, Method::POST, path, None, Some(&body)).await;
        drop(Zeroizing::new(body.token));
        let RelayEnrolled { relay, name, credential, secret } = answer.map_err(|error| match error {
            RequestError::Refused { refusal, .. } => anyhow!("{refusal}"),
            lost @ RequestError::Lost(_) => lost.into(),
        })?;
        let this = Self {
            coordinators: urls,
            fingerprint: token.fingerprint,
            relay,
            name,
            credential: Zeroizing::new(credential),
            secret: Zeroizing::new(secret),
            revoked: Vec::new(),
        };
        this.secret()?;
        this.save(data)?;
        Ok(this)
    }

    /// Reads what was kept; `None`: it has never enrolled.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn load(data: &DataDirectory) -> Result<Option<Self>> {
        let path = data.file(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let read = serde_json::from_str(&text);
        read.map(Some)
            .with_context(|| format!("{} is damaged: remove it, and enrol with another relay token", path.display()))
    }

    pub(super) fn save(&self, data: &DataDirectory) -> Result<()> {
        let text = Zeroizing::new(serde_json::to_string(self)?);
        data.write(FILE, text.as_bytes()).with_context(|| format!("{} cannot be written", data.file(FILE).display()))
    }

    /// What runners' passwords are made from.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn secret(&self) -> Result<RelaySecret> {
        self.secret.parse().context("the coordinator's secret makes no sense")
    }

    /// Who was removed.
    pub(crate) fn revoked(&self) -> &[Revoked] {
        &self.revoked
    }
}

/// Without secrets.
impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("relay", &self.relay).field("name", &self.name).finish_non_exhaustive()
    }
}
