//! A console for one operator, on the operator's own machine. It asks the coordinator as other commands do, and holds no
//! rights of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use axum::Router;
use mesh_console::model::Me;
use tokio::net::TcpListener;

use super::{
    desk::{Desk, Entry},
    gate,
};
use crate::{cli::client::Reach, random};

/// A console that listens, and the link that opens it once.
pub(super) struct Listening {
    listener: TcpListener,
    router: Router,
    /// The link. It is a secret.
    pub(super) link: String,
}

impl Listening {
    /// Listens on loopback.
    ///
    /// # Errors
    /// If the port is in use, or the system returns no random bytes.
    pub(super) async fn start((reach, who): (Reach, Me), mesh: &str, port: u16) -> Result<Self> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(at).await.with_context(|| format!("can't listen on {at}"))?;
        let at = listener.local_addr().context("the listener has no address")?;
        let key = random::secret()?.hash();
        let link = format!("http://{at}/?k={}", String::from(key.clone()));
        let port = at.port();
        let own = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
        let desk = Desk {
            sessions: Mutex::default(),
            entry: Entry::Link { key: Mutex::new(Some(key)), reach, who: Arc::new(who) },
            cookie: format!("mesh-{port}"),
            mesh: mesh.into(),
            is_own: Box::new(move |host| own.iter().any(|name| name == host)),
        };
        Ok(Self { listener, router: gate::router(desk), link })
    }

    /// Serves it until the process ends.
    ///
    /// # Errors
    /// If the listener fails.
    pub(super) async fn serve(self) -> Result<()> {
        axum::serve(self.listener, self.router).await.context("the console has ended")
    }
}
