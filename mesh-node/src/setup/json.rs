//! Changes of a JSON text that keep everything else, to the byte: the files belong to other programs.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Value, value::RawValue};

/// The value of a name in an object.
pub(super) fn get<'a>(object: &'a str, name: &str) -> serde_json::Result<Option<&'a str>> {
    Ok(entries(object)?.get(name).map(|value| value.get()))
}

/// The object with this value under this name: in place of the old value, or as the last member.
pub(super) fn set(object: &str, name: &str, value: &str) -> serde_json::Result<String> {
    let entries = entries(object)?;
    if let Some(there) = entries.get(name) {
        return Ok(splice(object, place(object, there), value));
    }
    let entry = format!("{}: {value}", Value::from(name));
    let last = entries.values().map(|value| place(object, value)).max_by_key(|place| place.end);
    Ok(match last {
        Some(last) => splice(object, last.end..last.end, &format!(",{}{entry}", indent(object, last.start))),
        None => {
            let inside = object.find('{').map_or(0, |at| at + 1)..object.rfind('}').unwrap_or(object.len());
            splice(object, inside, &format!("\n  {entry}\n"))
        }
    })
}

/// The range of a part that was borrowed from the text.
pub(super) fn place(text: &str, part: &RawValue) -> Range<usize> {
    let start = (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.get().len()
}

/// The whitespace before `start`, to lay out another entry in the same way: on its own line or not.
pub(super) fn indent(text: &str, start: usize) -> &str {
    let before = text.get(..start).unwrap_or_default();
    let line = before.rfind('\n').and_then(|at| before.get(at..)).unwrap_or(" ");
    let length = line.find(|c: char| !c.is_whitespace()).unwrap_or(line.len());
    line.get(..length).unwrap_or(" ")
}

fn entries(object: &str) -> serde_json::Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(object)
}

fn splice(text: &str, at: Range<usize>, with: &str) -> String {
    let kept = |range: Range<usize>| text.get(range).unwrap_or_default();
    format!("{}{with}{}", kept(0..at.start), kept(at.end..text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn a_value_replaces_the_old_one_or_is_added_in_the_same_layout() {
        for (before, after) in [
            ("{}\n", "{\n  \"b\": 1\n}\n"),
            ("{\"a\": {\"b\": 2}}", "{\"a\": {\"b\": 2}, \"b\": 1}"),
            ("{ \"b\" :2 , \"a\":3}", "{ \"b\" :1 , \"a\":3}"),
            (
                "{\n\t\"a\": {\n\t\t\"x\": 1\n\t},\n\t\"c\": []\n}",
                "{\n\t\"a\": {\n\t\t\"x\": 1\n\t},\n\t\"c\": [],\n\t\"b\": 1\n}",
            ),
        ] {
            assert_eq!(set(before, "b", "1").unwrap(), after);
            assert_eq!(get(after, "b").unwrap(), Some("1"));
        }
        assert_eq!(get("{\"a\": [ 1]}", "a").unwrap(), Some("[ 1]"));
        assert_eq!(get("{}", "a").unwrap(), None);
        assert!(set("[]", "a", "1").is_err() && set("{,}", "a", "1").is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), ".*".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn everything_else_stays(
            entries in prop::collection::btree_map(".*", value(), 0..5), name in ".*", pretty: bool
        ) {
            let mut object: Map<String, Value> = entries.into_iter().collect();
            let text = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => serde_json::to_string(&object).unwrap(),
            };
            let after: Map<String, Value> = serde_json::from_str(&set(&text, &name, "{\"path\": []}").unwrap()).unwrap();
            object.insert(name, json!({"path": []}));
            prop_assert_eq!(after, object);
        }
    }
}
