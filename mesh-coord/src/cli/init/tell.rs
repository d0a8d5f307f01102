//! What `init` tells: how the coordinator is, and what comes next.

use std::time::Duration;

use mesh_process::interfaces;

use super::{
    super::{time, token::url_before},
    address::Origin,
};
use crate::api;

/// What became of the coordinator.
pub(super) fn told(made: &api::NewToken, ran: bool, origin: &Origin) -> String {
    let urls = if made.urls.is_empty() { made.guess.clone().unwrap_or_default() } else { made.urls.join(", ") };
    let began = if ran { "runs already" } else { "runs" };
    let why = match origin {
        Origin::Own(address, interface) => {
            let near = if interfaces::reaches_far(*address) { "" } else { ", which only its own network reaches" };
            format!(
                " (this machine's address at {interface}{near}; for another one: mesh-coord init --undo, then mesh-coord init \
                 --advertise URL)"
            )
        }
        Origin::Given => String::new(),
    };
    format!("the coordinator {began}, as systemd's unit mesh-coord; runners reach it at {urls}{why}")
}

/// What to do with the token. On a terminal the line can be copied; else a file has it, and it is shown nowhere else.
pub(super) fn next(made: &api::NewToken, uses: u32, ttl: Duration, on_terminal: bool) -> String {
    let machines = if uses == 1 { "on one machine".to_owned() } else { format!("on each of up to {uses} machines") };
    let url = url_before(made, None).map(|url| url + " ").unwrap_or_default();
    let within = time::show(ttl.as_secs());
    if on_terminal {
        return format!("next, {machines} within {within}, as root:  mesh-node up {url}{}", made.token);
    }
    format!(
        "next, {machines} within {within}, with a copy of the file that has the token now, a secret; as root:  mesh-node up {url}@FILE"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(urls: &[&str], guess: Option<&str>) -> api::NewToken {
        let text = json!({"version": 1, "id": "t-1", "token": "mesh2.secret", "expires": 9, "warnings": [], "urls": urls, "guess": guess});
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_token_is_in_the_line_only_where_a_person_reads_it() {
        let (made, hour) = (made(&["https://192.0.2.10:7443"], None), Duration::from_secs(3600));
        let line = next(&made, 10, hour, true);
        assert_eq!(line, "next, on each of up to 10 machines within 1h, as root:  mesh-node up mesh2.secret");
        let line = next(&made, 1, hour, false);
        assert!(
            !line.contains("secret.") && !line.contains("mesh2.") && line.ends_with("mesh-node up @FILE"),
            "{line}"
        );
        let line = next(&self::made(&[], Some("https://c:7443")), 2, hour, true);
        assert!(line.ends_with("mesh-node up https://c:7443 mesh2.secret"), "{line}");
    }

    #[test]
    fn the_address_is_shown_with_what_changes_it() {
        let made = made(&["https://10.0.0.5:7443"], None);
        let own = |address: &str| Origin::Own(address.parse().unwrap(), "eth0".to_owned());
        let near = told(&made, false, &own("10.0.0.5"));
        assert!(near.contains("https://10.0.0.5:7443") && near.contains("only its own network"), "{near}");
        let far = told(&made, false, &own("203.0.113.5"));
        assert!(far.contains("--advertise URL") && !far.contains("only its own network"), "{far}");
        assert!(told(&made, true, &Origin::Given).contains("runs already"));
    }
}
