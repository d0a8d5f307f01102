//! Looks names up, as the machine's resolver has them.

use std::{net::SocketAddr, time::Duration};

use mesh_proto::relay::Place;
use tokio::{net::lookup_host, time::timeout};

/// How often names are looked up.
pub(super) const AGAIN: Duration = Duration::from_secs(60);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most addresses that are read of one answer.
const MAX: usize = 64;

/// The addresses of a place.
///
/// # Errors
/// If there are none, with the reason.
pub(super) async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, String> {
    if let Some(address) = place.address() {
        return Ok(vec![address]);
    }
    match timeout(PATIENCE, lookup_host((place.host(), place.port()))).await {
        Ok(Ok(found)) => {
            let addresses: Vec<SocketAddr> = found.take(MAX).collect();
            if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
