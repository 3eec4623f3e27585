//! The JSON of TUF: the bytes that signatures cover, and a look at a file before it is parsed.
//!
//! Signatures are over OLPC canonical JSON as `securesystemslib` writes it: sorted keys, no
//! spaces, whole numbers only, and only `"` and `\` escaped. The encoder is the library's; it is
//! named here so that author and client cannot differ.

use serde_json::Value;

/// Why bytes are not taken for JSON of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Objects in objects in objects.
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// A number with a fraction, which has no canonical form.
    #[error("a number that is not whole")]
    Fraction,
}

/// The bytes that a signature over `value` covers.
///
/// # Errors
/// [`JsonError::Fraction`] if there is a number that is not whole.
pub fn canonical(value: &Value) -> Result<Vec<u8>, JsonError> {
    sigstore_tuf::canonical_json::to_canonical_bytes(value).map_err(|_| JsonError::Fraction)
}

/// Looks at the nesting without building anything: a tree costs memory before it is refused.
///
/// # Errors
/// [`JsonError::TooDeep`].
pub fn check_nesting(bytes: &[u8], nesting_max: usize) -> Result<(), JsonError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > nesting_max {
                    return Err(JsonError::TooDeep(nesting_max));
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_is_that_of_securesystemslib() {
        let value = json!({ "b": [1, true, null], "a": "x\n\"\\é", "B": { "z": -3, "y": 2 } });
        let expected = "{\"B\":{\"y\":2,\"z\":-3},\"a\":\"x\n\\\"\\\\é\",\"b\":[1,true,null]}";
        assert_eq!(canonical(&value).as_deref(), Ok(expected.as_bytes()));
        assert_eq!(canonical(&json!({ "a": 1.5 })), Err(JsonError::Fraction));
    }

    #[test]
    fn nesting_is_bounded_before_anything_is_built() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(check_nesting(deep(12).as_bytes(), 12), Ok(()));
        assert_eq!(check_nesting(deep(13).as_bytes(), 12), Err(JsonError::TooDeep(12)));
        assert_eq!(check_nesting("[".repeat(60_000).as_bytes(), 12), Err(JsonError::TooDeep(12)));
        let text = format!("{{\"a\":\"{}\\\"[[\"}}", "[".repeat(50));
        assert_eq!(check_nesting(text.as_bytes(), 1), Ok(()));
        assert_eq!(check_nesting("[][][]{}".as_bytes(), 1), Ok(()));
    }
}
