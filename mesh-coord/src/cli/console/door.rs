//! Who may look: a browser that has followed the one-time link. Pure: the time is passed in.

use std::time::{Duration, Instant};

use mesh_proto::SecretHash;

/// How long a session may rest.
const IDLE: Duration = Duration::from_mins(30);
/// How long a session lasts.
const LONGEST: Duration = Duration::from_hours(12);

/// Random texts, compared in constant time.
type Random = SecretHash;

/// The way in.
#[derive(Debug)]
pub(super) struct Door {
    /// The link's key, until it is used.
    key: Option<Random>,
    /// What the session's cookie will hold.
    cookie: Random,
    session: Option<Session>,
    port: u16,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    began: Instant,
    last: Instant,
}

/// What a request shows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// `Host` (RFC 9110 §7.2).
    pub(super) host: Option<&'a str>,
    /// `Sec-Fetch-Site` (W3C Fetch Metadata), which browsers send and pages can't change.
    pub(super) site: Option<&'a str>,
    /// `Sec-Fetch-Mode`.
    pub(super) mode: Option<&'a str>,
    /// `Cookie`.
    pub(super) cookies: Option<&'a str>,
    /// The key of the link that was followed.
    pub(super) key: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Welcome,
    /// The link was followed: its cookie is set, and the key leaves the address bar.
    Enter(String),
    /// It isn't for this console: another name leads here (DNS rebinding).
    WrongHost,
    /// Another site's page has made it.
    Foreign,
    /// It shows nothing that was printed here.
    Stranger,
}

impl Door {
    pub(super) const fn new(key: Random, cookie: Random, port: u16) -> Self {
        Self { key: Some(key), cookie, session: None, port }
    }

    pub(super) fn admit(&mut self, shown: Shown<'_>, now: Instant) -> Verdict {
        if !shown.host.is_some_and(|host| self.is_own(host)) {
            return Verdict::WrongHost;
        }
        // A link may be followed from anywhere; its page still needs the cookie, which other sites' requests lack.
        let is_visit = shown.mode.is_none_or(|mode| mode == "navigate");
        if !is_visit && !matches!(shown.site, None | Some("same-origin" | "none")) {
            return Verdict::Foreign;
        }
        if let Some(key) = shown.key {
            let is_right = key.parse::<Text>().ok().zip(self.key.as_ref()).is_some_and(|(text, key)| text.0 == *key);
            if !is_right {
                return Verdict::Stranger;
            }
            self.key = None;
            self.session = Some(Session { began: now, last: now });
            let value = String::from(self.cookie.clone());
            return Verdict::Enter(format!("{}={value}; HttpOnly; SameSite=Strict; Path=/", self.name()));
        }
        let Some(session) = &mut self.session else { return Verdict::Stranger };
        if now >= session.last + IDLE || now >= session.began + LONGEST {
            self.session = None;
            return Verdict::Stranger;
        }
        let name = self.name();
        let values = shown.cookies.into_iter().flat_map(|all| all.split("; ")).filter_map(|one| one.split_once('='));
        let mut own = values.filter(|(found, _)| *found == name).filter_map(|(_, value)| value.parse::<Text>().ok());
        if !own.any(|Text(value)| value == self.cookie) {
            return Verdict::Stranger;
        }
        if let Some(session) = &mut self.session {
            session.last = now;
        }
        Verdict::Welcome
    }

    /// Cookies ignore ports: each console has a name of its own.
    fn name(&self) -> String {
        format!("mesh-{}", self.port)
    }

    fn is_own(&self, host: &str) -> bool {
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{}", self.port))
    }
}

/// A random text as it was printed.
struct Text(Random);

impl std::str::FromStr for Text {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Random::try_from(text.to_owned()).map(Self).map_err(drop)
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::Secret;

    use super::*;

    fn random(number: u8) -> Random {
        Secret::from_bytes([number; 32]).hash()
    }

    fn door() -> Door {
        Door::new(random(1), random(2), 4000)
    }

    const HOST: Shown<'_> = Shown { host: Some("127.0.0.1:4000"), site: None, mode: None, cookies: None, key: None };

    fn enter(door: &mut Door, now: Instant) -> String {
        let key = String::from(random(1));
        match door.admit(Shown { key: Some(&key), ..HOST }, now) {
            Verdict::Enter(cookie) => cookie.split(';').next().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_link_works_once_and_its_cookie_for_a_while() {
        let (mut door, now) = (door(), Instant::now());
        assert_eq!(door.admit(HOST, now), Verdict::Stranger);
        let cookie = enter(&mut door, now);
        let shown = Shown { cookies: Some(&cookie), ..HOST };
        assert_eq!(door.admit(shown, now), Verdict::Welcome);
        let key = String::from(random(1));
        assert_eq!(door.admit(Shown { key: Some(&key), ..HOST }, now), Verdict::Stranger);
        let mut later = now;
        for _ in 0..24 {
            later += IDLE - Duration::from_secs(1);
            assert_eq!(door.admit(shown, later), Verdict::Welcome);
        }
        assert_eq!(door.admit(shown, later + Duration::from_secs(30)), Verdict::Stranger, "twelve hours are over");
        let (mut door, now) = (self::door(), Instant::now());
        let cookie = enter(&mut door, now);
        assert_eq!(door.admit(Shown { cookies: Some(&cookie), ..HOST }, now + IDLE), Verdict::Stranger);
    }

    #[test]
    fn what_a_page_elsewhere_or_another_name_brings_is_refused() {
        let (mut door, now) = (door(), Instant::now());
        let cookie = enter(&mut door, now);
        let shown = Shown { cookies: Some(&cookie), ..HOST };
        for host in
            [None, Some("evil.example:4000"), Some("127.0.0.1"), Some("127.0.0.1:4001"), Some("127.0.0.1:40000")]
        {
            assert_eq!(door.admit(Shown { host, ..shown }, now), Verdict::WrongHost, "{host:?}");
        }
        for site in ["cross-site", "same-site", "x"] {
            let foreign = Shown { site: Some(site), mode: Some("no-cors"), ..shown };
            assert_eq!(door.admit(foreign, now), Verdict::Foreign, "{site}");
        }
        let wrong =
            format!("mesh-4000={}; mesh-4001={}; mesh-4000=x", String::from(random(3)), String::from(random(2)));
        assert_eq!(door.admit(Shown { cookies: Some(&wrong), ..HOST }, now), Verdict::Stranger);
        let among = format!("a=b; {cookie}; c=d");
        let own = Shown { cookies: Some(&among), site: Some("same-origin"), mode: Some("cors"), ..HOST };
        assert_eq!(door.admit(own, now), Verdict::Welcome);
        assert!(!format!("{door:?}").contains(&String::from(random(2))), "no secret is in its debug output");
    }
}
