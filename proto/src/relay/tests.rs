use super::*;
use crate::RunnerId;

fn secret(text: &str) -> RelaySecret {
    text.parse().unwrap()
}

#[test]
fn a_place_is_an_address_or_a_name_with_a_port() {
    for (text, host, address) in [
        ("203.0.113.9:3478", "203.0.113.9", true),
        ("[2001:db8::9]:443", "2001:db8::9", true),
        ("relay.example.net:3478", "relay.example.net", false),
        ("fra-1:3478", "fra-1", false),
    ] {
        let place: Place = text.parse().unwrap();
        assert_eq!((place.to_string(), place.host(), place.address().is_some()), (text.to_owned(), host, address));
    }
    assert_eq!("RELAY.example.NET:1".parse::<Place>().unwrap().to_string(), "relay.example.net:1");
    let long = format!("{}:1", "a".repeat(64));
    for bad in [
        "",
        ":",
        "a",
        "a:",
        "a:0",
        "203.0.113.9",
        "203.0.113.9:0",
        "203.0.113.999:1",
        "1:1",
        "a:+1",
        "a:99999",
        "a b:1",
        "2001:db8::9:443",
        "a..b:1",
        "-a:1",
        "a-:1",
        "a.:1",
        "[::1]",
        "ä:1",
        "user@a:1",
        "http://a:1",
        &long,
    ] {
        let error = bad.parse::<Place>().unwrap_err().to_string();
        assert!(error.contains("host with a port"), "{bad}: {error}");
    }
}

/// Reckoned with `openssl dgst -hmac` and `base64`: coturn reckons the password in the same way.
#[test]
fn credentials_are_those_of_the_convention() {
    let secret = secret("north");
    let credential = secret.credential(RunnerId(7), RelayId(3), 1_900_000_000);
    assert_eq!(credential.username, "1900000000:4c3ab79271e4fb7d2b75b511fb6540e5");
    assert_eq!(credential.password.expose(), "3sTJQjs2MAS5xEGvA79HjfNmMSc=");
    let (until, pseudonym) = Pseudonym::of_username(&credential.username).unwrap();
    assert_eq!((until, pseudonym), (1_900_000_000, secret.pseudonym(RunnerId(7), RelayId(3))));
}

#[test]
fn a_runner_has_another_name_at_each_relay_and_with_each_secret() {
    let (north, south) = (secret("north"), secret("south"));
    let names = [
        north.pseudonym(RunnerId(7), RelayId(3)),
        north.pseudonym(RunnerId(7), RelayId(4)),
        north.pseudonym(RunnerId(8), RelayId(3)),
        south.pseudonym(RunnerId(7), RelayId(3)),
    ];
    let distinct: std::collections::BTreeSet<_> = names.into_iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn names_of_another_form_are_refused() {
    let digits = "0".repeat(32);
    for bad in [
        String::new(),
        digits.clone(),
        format!(":{digits}"),
        format!("+1:{digits}"),
        format!("1:{}", "0".repeat(31)),
        format!("1:{}", "A".repeat(32)),
        format!("1:{}", "é".repeat(16)),
        format!("99999999999999999999999:{digits}"),
    ] {
        assert_eq!(Pseudonym::of_username(&bad), Err(CredentialError::Username), "{bad}");
    }
}

#[test]
fn secrets_and_passwords_are_not_printed() {
    let secret = secret(" north\n");
    assert_eq!(secret.expose(), "north");
    let texts = format!("{secret:?} {:?}", secret.credential(RunnerId(7), RelayId(3), 1));
    assert!(!texts.contains("north") && !texts.contains(secret.password("1:x").expose()), "{texts}");
    assert!(texts.contains("password: Password(..)"), "{texts}");
    for bad in ["", " ", "a b", "ä", "x".repeat(257).as_str()] {
        assert_eq!(bad.parse::<RelaySecret>(), Err(CredentialError::Secret));
    }
    assert!(Password::try_from("a\nb".to_owned()).is_err());
}
