//! Opens a connection as an instance of this runner.

use std::net::Ipv4Addr;

use mesh_lifecycle::Shown;
use mesh_proto::{ServicePath, message::Refusal};

use super::{blocking::blocking, handle::Instances, reopen::reopen};
use crate::attach::{self, Probed};

impl Instances {
    /// What becomes of a connection from an instance of a service.
    ///
    /// # Errors
    /// If there is none here, or its namespace can't be entered.
    pub(crate) async fn probe(&self, service: &ServicePath, to: (Ipv4Addr, u16)) -> Result<Probed, Refusal> {
        let wanted = service.clone();
        let is_of = move |shown: &Shown| shown.attachment.service == wanted;
        let found = self.look(move |lifecycle| lifecycle.list().into_iter().find(is_of)).await?;
        let Shown { attachment, .. } = found.ok_or_else(|| {
            Refusal::new(
                format!("there is no instance of {service} on this runner to open a connection from"),
                "run it on a runner that has one, or leave --probe out",
            )
        })?;
        // One at a time: each takes a thread for as long as it waits.
        let _turn = self.probing().await;
        let probed = blocking(move || {
            let namespace = reopen(&attachment).ok_or_else(|| "its namespace is gone".to_owned())?;
            attach::probe(&namespace, to).map_err(|error| error.to_string())
        });
        probed.await
    }
}
