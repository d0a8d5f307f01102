//! Opens a connection as an instance of this runner.

use std::net::Ipv4Addr;

use mesh_proto::{ServicePath, message::Refusal};

use super::{
    manager::{Instances, blocking},
    recover::reopen,
};
use crate::attach::{self, Probed};

impl Instances {
    /// What becomes of a connection from an instance of a service.
    ///
    /// # Errors
    /// If there is none here, or its namespace can't be entered.
    pub(crate) async fn probe(&self, service: &ServicePath, to: (Ipv4Addr, u16)) -> Result<Probed, Refusal> {
        let found = {
            let table = self.table();
            let mut alive = table.iter().filter(|entry| !entry.ending && entry.port.is_some());
            alive.find(|entry| entry.attachment.service == *service).map(|entry| entry.attachment.clone())
        };
        let attachment = found.ok_or_else(|| {
            Refusal::new(
                format!("there is no instance of {service} on this runner to open a connection from"),
                "run it on a runner that has one, or leave --probe out",
            )
        })?;
        // One at a time: each takes a thread for as long as it waits.
        let _turn = self.inner.probing.lock().await;
        let probed = blocking(move || {
            let namespace = reopen(&attachment).ok_or_else(|| "its namespace is gone".to_owned())?;
            attach::probe(&namespace, to).map_err(|error| error.to_string())
        });
        probed.await
    }
}
