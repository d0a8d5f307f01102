//! The annotations of a container's image, where containers/storage keeps both, as with podman. podman gives them to the container
//! as if they were its own, and nothing there says whose they are.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;
use serde::Deserialize;

use super::{
    docker::{MAX, octets},
    go,
    spec::Spec,
};
use crate::containers::{Labels, leave_out_the_images};

/// Where containers/storage is told of further stores of images: containers-storage.conf(5).
const CONFIGURATIONS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
/// Which containers there are: containers/storage, containers.go. Those of the second go with a restart of the machine.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// Of a container's entry in such a list.
#[derive(Debug, Deserialize)]
struct Entry {
    layer: String,
    /// Empty if it was made of none.
    #[serde(default)]
    image: String,
}

/// The annotations that a container has not from its image, as far as that would make it a member.
///
/// # Errors
/// If nobody knows.
pub(super) fn own_annotations(spec: &Spec) -> Result<Labels, Refusal> {
    let mut annotations = spec.annotations();
    if let Some((store, image)) = spec.root().and_then(|root| find(&root)) {
        leave_out_the_images(&mut annotations, &store.annotations(&image)?);
    }
    Ok(annotations)
}

/// Where containers and images are kept, by a driver.
#[derive(Debug)]
struct Store {
    directory: PathBuf,
    driver: String,
}

/// The store that a container's root is in, and its image, if it has one.
fn find(root: &Path) -> Option<(Store, String)> {
    let layers: Vec<&OsStr> = root.iter().collect();
    let mut stores = root.ancestors().filter_map(|place| {
        let store = Store { directory: place.parent()?.to_owned(), driver: place.file_name()?.to_str()?.to_owned() };
        store.place("containers").is_dir().then_some(store)
    });
    let store = stores.next()?;
    let lists = LISTS.iter().filter_map(|list| octets(&store.place("containers").join(list), MAX));
    let all = lists.flat_map(|list| serde_json::from_slice::<Vec<Entry>>(&list).unwrap_or_default());
    let image = all.into_iter().find(|entry| layers.contains(&OsStr::new(&entry.layer)))?.image;
    (!image.is_empty()).then_some((store, image))
}

impl Store {
    /// Where it keeps its containers, or its images.
    fn place(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}-{what}", self.driver))
    }

    /// The annotations of an image.
    fn annotations(&self, image: &str) -> Result<Labels, Refusal> {
        let unknown = |what: &str| {
            Refusal::new(
                format!("the image {image} {what}, so nobody knows whether it makes itself a member"),
                "is it still there, in podman's own store? `podman image inspect` says so; then make the container anew",
            )
        };
        if !image.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            return Err(unknown("has an odd name"));
        }
        let directories = [self.directory.clone()].into_iter().chain(CONFIGURATIONS.iter().flat_map(further));
        let mut places = directories.map(|directory| Self { directory, driver: self.driver.clone() }.place("images"));
        let manifest = places.find_map(|place| octets(&place.join(image).join("manifest"), MAX));
        let manifest = manifest.ok_or_else(|| unknown(&format!("is not in {}", self.directory.display())))?;
        go::annotations(&manifest).map_err(|_| unknown("has a manifest that can be read in more than one way"))
    }
}

/// Further stores of images that a configuration names.
fn further(configuration: &&str) -> Vec<PathBuf> {
    let stores = || {
        let text = String::from_utf8(octets(Path::new(configuration), MAX)?).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let stores = table.get("storage")?.get("options")?.get("additionalimagestores")?.as_array()?;
        Some(stores.iter().filter_map(|store| store.as_str().map(PathBuf::from)).collect())
    };
    stores().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::state::tests::Scratch;

    /// What counts of a container with `mesh.service=shop/db` whose image's manifest is this.
    fn counts(scratch: &Scratch, list: &str, entry: &Value, manifest: &str) -> Result<Option<String>, Refusal> {
        let (containers, image) = (scratch.0.join("overlay-containers"), scratch.0.join("overlay-images/f00"));
        let _ = fs::remove_dir_all(&containers);
        for directory in [&containers, &image] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(containers.join(list), json!([{"layer": "b"}, entry]).to_string()).unwrap();
        fs::write(image.join("manifest"), manifest).unwrap();
        let spec = json!({
            "root": {"path": scratch.0.join("overlay/a/merged")},
            "annotations": {"mesh.service": "shop/db", "other": "x"},
        });
        let spec = Spec::read(spec.to_string().as_bytes()).unwrap();
        own_annotations(&spec).map(|own| own.get("mesh.service").cloned())
    }

    #[test]
    fn what_an_image_says_of_itself_does_not_count() {
        let scratch = Scratch::new("storage");
        let service = Ok(Some("shop/db".to_owned()));
        let entry = json!({"layer": "a", "image": "f00"});
        let claims = json!({"annotations": {"mesh.service": "shop/db"}}).to_string();
        for list in LISTS {
            assert_eq!(counts(&scratch, list, &entry, &claims), Ok(None));
            assert_eq!(counts(&scratch, list, &entry, "{}"), service);
            assert_eq!(counts(&scratch, list, &json!({"layer": "a"}), &claims), service, "it has no image");
            assert_eq!(counts(&scratch, list, &json!({"layer": "c", "image": "f00"}), &claims), service, "another's");
        }
        let others = json!({"annotations": {"mesh.service": "shop/app"}}).to_string();
        assert_eq!(counts(&scratch, LISTS[0], &entry, &others), service, "the run has said otherwise");
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let scratch = Scratch::new("storage-unknown");
        for (image, manifest) in [
            ("beef", "{}"),
            ("../f00", "{}"),
            ("f00", r#"{"Annotations": {"mesh.service": "shop/db"}}"#),
            ("f00", "no JSON"),
        ] {
            let refusal = counts(&scratch, LISTS[0], &json!({"layer": "a", "image": image}), manifest).unwrap_err();
            assert!(refusal.error.contains("nobody knows"), "{refusal:?}");
        }
    }
}
