//! `console`: pages in the operator's own browser.

mod actions;
mod asker;
mod checks;
mod desk;
mod gate;
mod pages;
mod server;
mod sessions;
mod sign_in;
pub(super) mod team;
mod trail;
mod way;
mod wish;

use anyhow::{Context as _, Result};
use clap::Args;
use mesh_console::model::Me;

use self::server::Listening;
use super::{
    client::Reach,
    output::{note, print},
};
use crate::api::Overview;

#[derive(Debug, Args)]
pub(super) struct Console {
    /// The port on 127.0.0.1 [default: any free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(args: Console) -> Result<()> {
    let Console { port, reach } = args;
    // A coordinator that can't be asked is a mistake of the command, not of a page.
    reach.get::<Overview>("overview").await?;
    // One of an earlier version doesn't tell, and allows everything.
    let who = reach.get::<Me>("me").await.unwrap_or_default();
    let mesh = reach.url().unwrap_or_else(|| "on this machine".to_owned());
    let console = Listening::start((reach, who), &mesh, port).await?;
    print(&console.link)?;
    note(
        "open this link in a browser on this machine; it works once. From elsewhere: `ssh -L` the port. Ctrl-C ends the console",
    );
    tokio::select! {
        served = console.serve() => served,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("SIGINT cannot be waited for"),
    }
}
