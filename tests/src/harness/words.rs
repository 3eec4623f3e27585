//! A command line as one text: what is printed is what is run.

/// Splits at spaces; `'single quotes'` keep a word together.
///
/// # Panics
/// If a quote is left open: the text stands in our own source.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "a quote is left open in {line:?}");
    words.extend(word);
    words
}

/// The end of a text, for a failure: at most `lines_max` lines.
pub fn tail(text: &str, lines_max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

/// Every line pushed in.
pub fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(split("a  b 'c d' e'f g'"), ["a", "b", "c d", "ef g"]);
        assert_eq!(split("x ''"), ["x", ""]);
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("1\n2\n3", 2), "2\n3");
        assert_eq!(tail("1", 5), "1");
    }
}
