//! Images as Docker describes them.

use std::{fmt, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, ApiError, escape};
use crate::containers::Labels;

/// The configuration of a container or an image.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Configured {
    /// Docker 29 and later omit it if there are none.
    #[serde(default)]
    pub(super) labels: Option<Labels>,
    #[serde(default)]
    pub(super) env: Environment,
}

/// The environment of a container, as `NAME=VALUE`. It may hold secrets.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Environment(Option<Vec<String>>);

impl Environment {
    pub(super) fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// The manifest from which a container was made, of an image for several platforms (OCI image specification, "OCI Image Index
/// Specification"). Docker reports it with containerd's image store.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    /// Its SHA-256, as `sha256:HEX`.
    #[serde(default)]
    digest: Option<String>,
    /// Its platform, if the image has several.
    #[serde(default)]
    platform: Option<Value>,
}

impl Manifest {
    /// Its SHA-256, as `sha256:HEX`.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    config: Option<Configured>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// The labels of an image, by the digest that a container names and the manifest of its platform.
pub(super) async fn labels(api: &Api, image: &str, manifest: Option<&Manifest>) -> Result<Labels, ApiError> {
    let platform = manifest.and_then(|manifest| manifest.platform.as_ref());
    // Older versions of Docker ignore this parameter.
    let query = platform.map(|platform| format!("?platform={}", escape(&platform.to_string()))).unwrap_or_default();
    let found: Image = api.get(&format!("/images/{}/json{query}", escape(image))).await?;
    let is = |name: &str, value: &str| platform.is_none_or(|platform| platform.get(name).is_none_or(|is| is == value));
    // If no image fits this machine's platform, Docker answers with empty fields, which look like an image without labels.
    if found.architecture.is_empty() || !is("os", &found.os) || !is("architecture", &found.architecture) {
        return Err(ApiError::OtherPlatform(image.to_owned()));
    }
    Ok(found.config.and_then(|config| config.labels).unwrap_or_default())
}

/// [`labels`] for callers without an async runtime; waits up to `patience`.
///
/// # Errors
/// If Docker is absent, runs as another user, or doesn't know the image ([`ApiError::is_not_found`]).
pub(crate) fn image_labels(
    socket: &Path,
    image: &str,
    manifest: Option<&Manifest>,
    patience: Duration,
) -> Result<Labels, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = async { labels(&Api::find(socket).await?, image, manifest).await };
        tokio::time::timeout(patience, answer).await.map_err(std::io::Error::from)?
    })
}
