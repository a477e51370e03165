//! Just enough of Rust's grammar to find the paths in a file.

/// The text without comments, the contents of strings, and `#[cfg(test)]` modules.
pub(crate) fn code(text: &str) -> String {
    without_comments_and_strings(&without_test_modules(text))
}

/// Every path in the text, with the trees of `use` spelt out: `use a::{b, c::d}` gives `a::b` and
/// `a::c::d`. Single names are left out, but for those that are used (`use a as b`).
pub(crate) fn paths(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            // `$crate` in a macro is resolved where the macro is used.
            let foreign = at > 0 && tokens[at - 1] == "$";
            let used = at > 0 && tokens[at - 1] == "use";
            let mut tree = Vec::new();
            at = read_tree(&tokens, at, "", &mut tree);
            if !foreign {
                found.extend(tree.into_iter().filter(|path| used || path.contains("::")));
            }
        } else {
            at += 1;
        }
    }
    found
}

/// Reads `a::b`, `a::{b, c}` or `a::*` that starts at `at`; answers where it ends.
fn read_tree(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") if path.ends_with("::") => {
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.as_str() {
                        "}" => return at + 1,
                        token if is_name(token) => at = read_tree(tokens, at, &path, found),
                        _ => at += 1,
                    }
                }
                return at;
            }
            Some(name) if is_name(name) && (path.is_empty() || path.ends_with("::")) => {
                if name != "self" || path.is_empty() {
                    path.push_str(name);
                } else {
                    path.truncate(path.len() - 2);
                }
                at += 1;
                if tokens.get(at).is_some_and(|token| token == "::") {
                    path.push_str("::");
                    at += 1;
                    continue;
                }
            }
            _ => {}
        }
        found.push(path.trim_end_matches("::").to_owned());
        return at;
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::`, and every other character on its own.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(first) = characters.next() {
        if first.is_alphanumeric() || first == '_' {
            let mut name = String::from(first);
            while let Some(next) = characters.next_if(|c| c.is_alphanumeric() || *c == '_') {
                name.push(next);
            }
            tokens.push(name);
        } else if first == ':' && characters.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !first.is_whitespace() {
            tokens.push(first.to_string());
        }
    }
    tokens
}

/// Relies on rustfmt: a module at the margin ends with the next `}` at the margin.
fn without_test_modules(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if opens {
            lines.by_ref().find(|line| *line == "}");
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn without_comments_and_strings(text: &str) -> String {
    let text: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| {
        what.chars()
            .enumerate()
            .all(|(offset, c)| text.get(at + offset) == Some(&c))
    };
    let mut kept = String::new();
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        if starts(at, "//") {
            while text.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            while at < text.len() {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    at += 1;
                }
            }
        } else if c == '"' {
            let hashes = kept.chars().rev().take_while(|c| *c == '#').count();
            let raw = kept
                .chars()
                .rev()
                .nth(hashes)
                .is_some_and(|before| before == 'r');
            let end = format!("\"{}", "#".repeat(if raw { hashes } else { 0 }));
            at += 1;
            while at < text.len() && !starts(at, &end) {
                at += if !raw && text[at] == '\\' { 2 } else { 1 };
            }
            at += end.len();
            kept.push_str("\"\"");
        } else if c == '\'' && starts(at + 1, "\\") {
            at += 3;
            while text.get(at).is_some_and(|c| *c != '\'') {
                at += 1;
            }
            at += 1;
        } else if c == '\'' && text.get(at + 2) == Some(&'\'') {
            at += 3;
        } else {
            kept.push(c);
            at += 1;
        }
    }
    kept
}
