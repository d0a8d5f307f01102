//! What images are, in containerd's content store, where Docker keeps them too if it was told to (Docker 29: unless told
//! otherwise). A blob is called by its SHA-256, and so proves by itself that it is the one: it doesn't matter where it lies.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{docker::octets, go};

/// The store of the machine's containerd (containerd's documentation, ops.md), of which Docker's packages make use.
const MACHINES: &str = "/var/lib/containerd";
/// That of the one which Docker starts itself where there is no other, beside its containers (moby, cmd/dockerd/daemon.go).
const DOCKERS: &str = "containerd/daemon";
/// Where the blobs are in there (containerd, plugins/content/local).
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";
/// The largest blob that is read, in octets: as much as containerd allows a manifest.
const MAX: u64 = 8 << 20;

/// The configuration of the image with this manifest (OCI image specification, «Image Configuration»). `None` if it isn't there,
/// or the digest is that of an index of several images.
pub(super) fn configuration(containers: &Path, manifest: &str) -> Option<Vec<u8>> {
    let beside = containers.parent().map(|docker| docker.join(DOCKERS));
    beside
        .into_iter()
        .chain([PathBuf::from(MACHINES)])
        .find_map(|root| blob(&root, &go::configuration(&blob(&root, manifest)?).ok()??))
}

/// A blob, if it is there and what it is called.
fn blob(root: &Path, digest: &str) -> Option<Vec<u8>> {
    let name = digest.strip_prefix("sha256:")?;
    if name.len() != 64 || !name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    octets(&root.join(BLOBS).join(name), MAX).filter(|octets| digest_of(octets) == name)
}

/// The SHA-256 in the digits that blobs are called by.
fn digest_of(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::state::tests::Scratch;

    /// Puts a blob into the store beside a directory of containers, and gives its digest.
    pub(in crate::oci) fn put(containers: &Path, blob: &Value) -> String {
        let text = blob.to_string();
        let name = digest_of(text.as_bytes());
        let blobs = containers.parent().unwrap().join(DOCKERS).join(BLOBS);
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&name), text).unwrap();
        format!("sha256:{name}")
    }

    #[test]
    fn an_image_is_found_by_its_manifest_and_nothing_passes_for_another() {
        let scratch = Scratch::new("content");
        let containers = scratch.0.join("containers");
        let config = json!({"architecture": "amd64", "config": {"Labels": {"a": "b"}}});
        let digest = put(&containers, &config);
        let manifest = put(&containers, &json!({"schemaVersion": 2, "config": {"digest": digest}}));
        assert_eq!(configuration(&containers, &manifest), Some(config.to_string().into()));
        let index = put(&containers, &json!({"schemaVersion": 2, "manifests": [{"digest": manifest}]}));
        for none in [index.as_str(), "sha256:f00", "", "sha256:../../../../etc/passwd", &format!("sha256:{:064}", 0)] {
            assert_eq!(configuration(&containers, none), None, "{none}");
        }
        let blobs = scratch.0.join(DOCKERS).join(BLOBS);
        fs::write(blobs.join(&digest[7..]), json!({"config": {"Labels": {}}}).to_string()).unwrap();
        assert_eq!(configuration(&containers, &manifest), None, "it is not what it is called");
    }
}
