//! Reads JSON that Docker or podman also read, with Go's encoding/json: that ignores the case of names and merges duplicates. A text
//! that Go could read differently is ambiguous and tells nothing.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::containers::{Labels, texts};

/// The text can be read in more than one way, or not at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// The labels in the configuration of an image (OCI image specification, "Image Configuration").
pub(super) fn labels(configuration: &[u8]) -> Result<Labels, Ambiguous> {
    let Some(config) = member(whole(configuration)?, "config")? else { return Ok(Labels::new()) };
    let Some(labels) = member(config, "Labels")? else { return Ok(Labels::new()) };
    serde_json::from_str::<Value>(labels.get()).map(|labels| texts(Some(&labels))).map_err(|_| Ambiguous)
}

/// The annotations in the manifest of an image ("Image Manifest").
pub(super) fn annotations(manifest: &[u8]) -> Result<Labels, Ambiguous> {
    let Some(annotations) = member(whole(manifest)?, "annotations")? else { return Ok(Labels::new()) };
    serde_json::from_str::<Value>(annotations.get()).map(|annotations| texts(Some(&annotations))).map_err(|_| Ambiguous)
}

/// The digest of an image's configuration, from the image's manifest; `None`: it isn't the manifest of one image.
pub(super) fn configuration(manifest: &[u8]) -> Result<Option<String>, Ambiguous> {
    let Some(config) = member(whole(manifest)?, "config")? else { return Ok(None) };
    let Some(digest) = member(config, "digest")? else { return Ok(None) };
    serde_json::from_str(digest.get()).map(Some).map_err(|_| Ambiguous)
}

fn whole(text: &[u8]) -> Result<&RawValue, Ambiguous> {
    serde_json::from_slice(text).map_err(|_| Ambiguous)
}

/// A member of an object (or of `null`) that occurs at most once, in exactly this spelling.
fn member<'a>(object: &'a RawValue, name: &str) -> Result<Option<&'a RawValue>, Ambiguous> {
    let object: Option<Members<'_>> = serde_json::from_str(object.get()).map_err(|_| Ambiguous)?;
    let mut same = object.into_iter().flat_map(|Members(all)| all).filter(|(there, _)| folded(there) == folded(name));
    match (same.next(), same.next()) {
        (None, _) => Ok(None),
        (Some((there, value)), None) if there == name => Ok(Some(value)),
        _ => Err(Ambiguous),
    }
}

/// A name as encoding/json compares it (`foldName` of its fold.go), for names that may equal an ASCII one.
fn folded(name: &str) -> String {
    let fold = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// All members of an object in their order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Members(all))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unambiguous_text_is_read() {
        let of = |text: &str| labels(text.as_bytes()).map(|labels| labels.into_iter().collect::<Vec<_>>());
        assert_eq!(of(r#"{"a": 1, "config": {"Labels": {"x": "y"}}}"#), Ok(vec![("x".to_owned(), "y".to_owned())]));
        for none in ["{}", r#"{"config": null}"#, r#"{"config": {"Env": []}}"#, r#"{"config": {"Labels": null}}"#] {
            assert_eq!(of(none), Ok(vec![]), "{none}");
        }
        let manifest = br#"{"config": {"digest": "sha256:f00"}}"#;
        assert_eq!(configuration(manifest), Ok(Some("sha256:f00".to_owned())));
        assert_eq!(configuration(br#"{"manifests": []}"#), Ok(None));
    }

    #[test]
    fn text_that_docker_could_read_differently_is_ambiguous() {
        for text in [
            r#"{"config": {"labels": {"x": "y"}}}"#,
            r#"{"Config": {"Labels": {"x": "y"}}}"#,
            r#"{"config": {"Label\u017f": {"x": "y"}}}"#,
            r#"{"config": {"Labels": {"x": "y"}, "Labels": {}}}"#,
            r#"{"config": {"Labels": {"x": "y"}}, "config": {}}"#,
            r#"{"config": {"Labels": {}, "LABELS": {"x": "y"}}}"#,
            r#"{"config": []}"#,
            r#"{"config": {"#,
            "",
        ] {
            assert_eq!(labels(text.as_bytes()), Err(Ambiguous), "{text}");
        }
        assert_eq!(configuration(br#"{"config": {"digest": "a"}, "Config": {"digest": "b"}}"#), Err(Ambiguous));
    }
}
