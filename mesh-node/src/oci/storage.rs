//! The annotations of a container's image, where containers/storage keeps both, as with podman. podman gives them to the container
//! as if they were its own, and nothing there says whose they are.

use std::{
    ffi::OsStr,
    fs,
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
/// What podman mounts from where it keeps what goes with a restart, in a container of any kind.
const MOUNTED: [&str; 4] = ["/run/.containerenv", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];

/// Of a container's entry in such a list.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
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
    if let Some((store, root)) = spec.root().and_then(|root| Some((Store::of(&root)?, root))) {
        let image = store.image(&root, spec)?;
        if !image.is_empty() {
            leave_out_the_images(&mut annotations, &store.annotations(&image)?);
        }
    }
    Ok(annotations)
}

/// Where containers and images are kept, by a driver.
#[derive(Debug)]
struct Store {
    directory: PathBuf,
    driver: String,
}

impl Store {
    /// The one that the root of a container is in, if it is in any.
    fn of(root: &Path) -> Option<Self> {
        let mut places = root.ancestors().filter_map(|place| {
            let (directory, driver) = (place.parent()?.to_owned(), place.file_name()?.to_str()?.to_owned());
            Some(Self { directory, driver })
        });
        places.find(|store| ["containers", "layers"].iter().all(|what| store.place(what).is_dir()))
    }

    /// Where it keeps its containers, for instance.
    fn place(&self, what: &str) -> PathBuf {
        self.directory.join(self.called(what))
    }

    fn called(&self, what: &str) -> String {
        format!("{}-{what}", self.driver)
    }

    /// The image of the container with this root; empty if it has none.
    fn image(&self, root: &Path, spec: &Spec) -> Result<String, Refusal> {
        let layers: Vec<&OsStr> = root.iter().collect();
        let passing = MOUNTED.iter().filter_map(|mounted| {
            let source = spec.source_of(mounted)?;
            source.ancestors().find(|place| place.ends_with(self.called("containers"))).map(Path::to_owned)
        });
        let mut lists =
            [self.place("containers")].into_iter().chain(passing).flat_map(|place| LISTS.map(|l| place.join(l)));
        let found = lists.find_map(|list| {
            let all: Vec<Entry> = serde_json::from_slice(&octets(&list, MAX)?).ok()?;
            all.into_iter().find(|entry| layers.contains(&OsStr::new(&entry.layer)))
        });
        found.map(|entry| entry.image).ok_or_else(|| {
            let (root, place) = (root.display(), self.place("containers"));
            unknown(&format!("the container with the root {root} is not listed in {}", place.display()))
        })
    }

    /// The annotations of an image.
    fn annotations(&self, image: &str) -> Result<Labels, Refusal> {
        if !image.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
            return Err(unknown(&format!("the image {image} has an odd name")));
        }
        let directories =
            [self.directory.clone()].into_iter().chain(CONFIGURATIONS.iter().flat_map(|file| further(Path::new(file))));
        let mut places = directories.flat_map(images);
        let manifest = places.find_map(|place| octets(&place.join(image).join("manifest"), MAX));
        let manifest =
            manifest.ok_or_else(|| unknown(&format!("the image {image} is not in {}", self.directory.display())))?;
        go::annotations(&manifest)
            .map_err(|_| unknown(&format!("the image {image} has a manifest that can be read in more than one way")))
    }
}

fn unknown(what: &str) -> Refusal {
    Refusal::new(
        format!("{what}, so nobody knows whether its image makes it a member"),
        format!(
            "is the image still there, by `podman image inspect`? A store that only an option of podman's names has to stand in {} too",
            CONFIGURATIONS[0]
        ),
    )
}

/// Where a store keeps images, by whatever driver.
fn images(directory: PathBuf) -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().ends_with("-images"))
}

/// Further stores of images that a configuration names.
fn further(configuration: &Path) -> Vec<PathBuf> {
    let stores = || {
        let text = String::from_utf8(octets(configuration, MAX)?).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let storage = table.get("storage")?;
        let options = storage.get("options").and_then(|options| options.get("additionalimagestores"));
        let several = options.and_then(toml::Value::as_array).into_iter().flatten();
        let all = storage.get("imagestore").into_iter().chain(several);
        Some(all.filter_map(|store| store.as_str().map(PathBuf::from)).collect())
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
        for directory in [&containers, &image, &scratch.0.join("overlay-layers")] {
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
        let another = counts(&scratch, LISTS[0], &json!({"layer": "c", "image": "f00"}), "{}").unwrap_err();
        assert!(another.error.contains("is not listed"), "{another:?}");
    }

    #[test]
    fn a_list_that_goes_with_a_restart_can_be_elsewhere() {
        let scratch = Scratch::new("storage-transient");
        let entry = json!({"layer": "a", "image": "f00"});
        let claims = json!({"annotations": {"mesh.service": "shop/db"}}).to_string();
        assert_eq!(counts(&scratch, LISTS[1], &entry, &claims), Ok(None));
        let passing = scratch.0.join("run/overlay-containers");
        fs::create_dir_all(&passing).unwrap();
        fs::rename(scratch.0.join("overlay-containers").join(LISTS[1]), passing.join(LISTS[1])).unwrap();
        let spec = json!({
            "root": {"path": scratch.0.join("overlay/a/merged")},
            "annotations": {"mesh.service": "shop/db"},
            "mounts": [{"destination": "/etc/hosts", "source": passing.join("c0/userdata/hosts")}],
        });
        let own = own_annotations(&Spec::read(spec.to_string().as_bytes()).unwrap()).unwrap();
        assert!(own.is_empty(), "{own:?}");
    }
}
