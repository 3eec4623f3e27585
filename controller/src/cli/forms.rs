//! Data as JSON, lines of JSON, YAML or bare names. What is printed is an interface: its fields
//! are those of the API (`api/types/`).

use serde::Serialize;
use serde_json::Value;

use super::args::Format;
use crate::api::failure::Failure;

/// `value` in a form for programs; tables are made elsewhere and print as JSON here.
pub(super) fn print<T: Serialize>(format: Format, value: &T) -> Result<String, Failure> {
    let wrong = |error: &serde_json::Error| Failure::from_error("cannot write the answer", error);
    if !matches!(format, Format::Jsonl | Format::Yaml | Format::Name) {
        // Not by way of a `Value`: fields keep their order.
        return serde_json::to_string_pretty(value).map_err(|e| wrong(&e));
    }
    let value = serde_json::to_value(value).map_err(|e| wrong(&e))?;
    match format {
        Format::Jsonl => Ok(things(&value).map(|thing| thing.to_string() + "\n").collect()),
        Format::Name => things(&value).map(name).collect(),
        _ => Ok(yaml(&value)),
    }
}

/// The elements of a list, or the one thing that it is.
fn things(value: &Value) -> impl Iterator<Item = &Value> {
    let list = value.as_array().map(Vec::as_slice);
    list.unwrap_or(std::slice::from_ref(value)).iter()
}

/// What a thing is called in other commands: its id, or `MODEL@VERSION`.
fn name(thing: &Value) -> Result<String, Failure> {
    let text = |key: &str| match thing.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let release = || Some(format!("{}@{}", text("model")?, text("version")?));
    let found = text("id").or_else(release).or_else(|| text("name"));
    found.map(|name| name + "\n").ok_or_else(|| {
        Failure::usage("what this prints has no name of its own").mend("use -o json or -o yaml")
    })
}

/// YAML 1.2 in blocks. Texts are quoted as in JSON, which YAML includes: no text is taken for a
/// number, a date or a Norwegian no.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        scalar => out.push_str(&format!("{scalar}\n")),
    }
    out
}

/// The lines of a map or list that is not empty, `depth` levels in.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let mut entry = |mark: String, value: &Value| {
        out.push_str(&indent);
        out.push_str(&mark);
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                block(value, depth + 1, out);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                block(value, depth + 1, out);
            }
            scalar => out.push_str(&format!(" {scalar}\n")),
        }
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                entry(format!("{}:", Value::String(key.clone())), value);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| entry("-".to_owned(), value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(format: Format, value: &Value, expected: &str) {
        assert_eq!(print(format, value).unwrap(), expected);
    }

    #[test]
    fn lists_become_lines_and_names() {
        let devices = json!([{"id": "cam-1", "online": true}, {"id": "cam-2"}]);
        check(Format::Jsonl, &devices, "{\"id\":\"cam-1\",\"online\":true}\n{\"id\":\"cam-2\"}\n");
        check(Format::Name, &devices, "cam-1\ncam-2\n");
        check(Format::Name, &json!({"id": 3, "model": "digits"}), "3\n");
        check(Format::Name, &json!([{"model": "digits", "version": "v1"}]), "digits@v1\n");
        check(Format::Name, &json!([]), "");
        let failure = print(Format::Name, &json!({"pid": 1})).unwrap_err();
        assert_eq!(failure.code, crate::api::failure::Kind::Usage);
    }

    #[test]
    fn yaml_is_what_yaml_readers_read() {
        let value = json!({
            "a": {"b": [1, {"c": "no"}], "empty": {}, "none": null},
            "list": [[true], []],
            "text": "two\nlines: yes",
        });
        let expected = "\"a\":\n  \"b\":\n    - 1\n    -\n      \"c\": \"no\"\n  \"empty\": {}\n  \
                        \"none\": null\n\"list\":\n  -\n    - true\n  - []\n\"text\": \"two\\nlines: yes\"\n";
        check(Format::Yaml, &value, expected);
        check(Format::Yaml, &json!([]), "[]\n");
    }
}
