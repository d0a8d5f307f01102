//! Reads images from containerd's content store, where Docker keeps them too if configured (since Docker 29: by default). A blob's
//! name is its SHA-256, so its content can be verified, and any store is as good as another.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{go, read::read_up_to};

/// The store of the machine's containerd, which Docker's packages use (containerd's documentation, ops.md).
const MACHINES: &str = "/var/lib/containerd";
/// The store of the containerd that dockerd starts itself, relative to Docker's data root (moby, cmd/dockerd/daemon.go).
const DOCKERS: &str = "containerd/daemon";
/// The directory of the blobs in a store (containerd, plugins/content/local).
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";
/// The largest blob that is read, in bytes: containerd's limit for a manifest.
const MAX: u64 = 8 << 20;

/// The configuration of the image with this manifest (OCI image specification, "Image Configuration"). `None` if no store has it,
/// or the digest is that of an index of several images.
pub(super) fn configuration(containers: &Path, manifest: &str) -> Option<Vec<u8>> {
    let beside = containers.parent().map(|docker| docker.join(DOCKERS));
    beside
        .into_iter()
        .chain([PathBuf::from(MACHINES)])
        .find_map(|root| blob(&root, &go::configuration(&blob(&root, manifest)?).ok()??))
}

/// A blob, if it exists and its content matches its name.
fn blob(root: &Path, digest: &str) -> Option<Vec<u8>> {
    let name = digest.strip_prefix("sha256:")?;
    if name.len() != 64 || !name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    read_up_to(&root.join(BLOBS).join(name), MAX).filter(|bytes| digest_of(bytes) == name)
}

/// The SHA-256 in hexadecimal digits, as in the names of blobs.
fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::state::tests::Scratch;

    /// Puts a blob into the store beside a directory of containers and returns its digest.
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
