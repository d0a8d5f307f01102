//! How a command reaches the coordinator: by its socket, or from afar.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use mesh_link::{Method, RequestError, Url};
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::token::{Token, TokenKind};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::output::Refused;
use crate::{api::Done, data};

/// The variable that holds the admin token: arguments can be seen by every user of the machine.
const TOKEN_VARIABLE: &str = "MESH_ADMIN_TOKEN";

/// Where the coordinator is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reach {
    /// The data directory of the coordinator on this machine, if it is not the default one
    #[arg(long, value_name = "DIR", env = "MESH_COORD_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// A coordinator elsewhere; $MESH_ADMIN_TOKEN holds the admin token
    #[arg(long)]
    url: Option<Url>,
}

impl Reach {
    /// Asks to be shown something.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.request(Method::GET, path, None::<&()>).await
    }

    /// Gives a command.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn order(&self, command: &AdminCommand) -> Result<Outcome> {
        let done: Done = self.request(Method::POST, "command", Some(command)).await?;
        Ok(done.outcome)
    }

    /// Asks for anything.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T> {
        let path = format!("/v1/admin/{path}");
        let answer = match &self.url {
            Some(url) => {
                let text = env::var(TOKEN_VARIABLE).map_err(|_| {
                    anyhow!("--url needs an admin token in ${TOKEN_VARIABLE}: make one with `mesh-coord token create --admin`")
                })?;
                let token = Token::parse(TokenKind::Admin, &text).with_context(|| format!("${TOKEN_VARIABLE}"))?;
                let stream = mesh_link::connect(url, token.fingerprint).await?;
                mesh_link::request(stream, &url.authority(), method, &path, Some(text.trim()), body).await
            }
            None => mesh_link::request(self.socket().await?, "localhost", method, &path, None, body).await,
        };
        answer.map_err(|error| match error {
            RequestError::Refused { refusal, .. } => Refused(refusal).into(),
            lost @ RequestError::Lost(_) => lost.into(),
        })
    }

    async fn socket(&self) -> Result<UnixStream> {
        let directory = self.data.clone().unwrap_or_else(data::default_directory);
        let path = data::socket_path(&directory)?;
        let shown = path.display();
        UnixStream::connect(&path).await.or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => bail!(
                "no coordinator answers at {shown}: start `mesh-coord serve`, or name the data directory of the running \
                 one with --data, or its address with --url"
            ),
            std::io::ErrorKind::PermissionDenied => bail!(
                "{shown} may not be used by this user: run as root or as the coordinator's own user, or use --url with an \
                 admin token"
            ),
            _ => Err(error).with_context(|| format!("{shown} cannot be connected to")),
        })
    }
}
