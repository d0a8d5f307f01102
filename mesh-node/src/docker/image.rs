//! What is known of an image.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, ApiError, escape};
use crate::containers::Labels;

/// What a container or an image was given.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Configured {
    /// Since Docker 29 left out where there are none.
    #[serde(default)]
    pub(super) labels: Option<Labels>,
}

/// What a container says of the one image that it was made from, of an image for several platforms: the descriptor of its
/// manifest. (OCI image specification, «OCI Image Index Specification»; Docker has it with containerd's image store.)
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    /// Its SHA-256, as `sha256:HEX`.
    #[serde(default)]
    digest: Option<String>,
    /// Which platform it is for, where there is a choice.
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

/// The labels of an image, by what a container says that its image is: a digest, and which image of several that means.
pub(super) async fn labels(api: &Api, image: &str, manifest: Option<&Manifest>) -> Result<Labels, ApiError> {
    let platform = manifest.and_then(|manifest| manifest.platform.as_ref());
    // A Docker that doesn't know this parameter yet ignores it.
    let query = platform.map(|platform| format!("?platform={}", escape(&platform.to_string()))).unwrap_or_default();
    let found: Image = api.get(&format!("/images/{}/json{query}", escape(image))).await?;
    let is = |name: &str, value: &str| platform.is_none_or(|platform| platform.get(name).is_none_or(|is| is == value));
    // Where none of its images is for this machine Docker says nothing of them, in words that look like an image without labels.
    if found.architecture.is_empty() || !is("os", &found.os) || !is("architecture", &found.architecture) {
        return Err(ApiError::OtherPlatform(image.to_owned()));
    }
    Ok(found.config.and_then(|config| config.labels).unwrap_or_default())
}

/// The same for who has no runtime, and no more time than that.
///
/// # Errors
/// If Docker isn't there, or not ours to believe, or doesn't know the image ([`ApiError::is_not_found`]).
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
