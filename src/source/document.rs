//! Cutting a file into YAML documents.
//!
//! The YAML parser cannot go on after an error, so that one broken document would hide all that
//! follow. Cutting at lines that start with a marker is exact: YAML forbids such a line inside any
//! content, block scalars included (YAML 1.2.2, production `c-forbidden`).

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A document in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'f> {
    pub(super) bytes: &'f [u8],
    /// The line in the file of the first byte, from 1.
    pub(super) start: usize,
    /// The line of the first content.
    pub(super) line: usize,
}

/// How far the document has come that is being cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Comments and directives, which belong to the marker that follows them.
    Before,
    /// A marker, no content.
    Marked,
    /// Content, from this line on.
    Content(usize),
}

/// The documents of a file that have content.
pub(super) fn documents(file: &[u8]) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut cut = |from: usize, to: usize, start: usize, stage: Stage| {
        if let (Stage::Content(line), Some(bytes)) = (stage, file.get(from..to)) {
            documents.push(Document {
                bytes: bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes),
                start,
                line,
            });
        }
    };
    let (mut from, mut start, mut stage) = (0, 1, Stage::Before);
    let mut position = 0;
    for (index, whole) in file.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let end = position + whole.len();
        let line = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
        if let Some(rest) = after_marker(line, b"---") {
            if stage != Stage::Before {
                cut(from, position, start, stage);
                (from, start) = (position, number);
            }
            stage = if has_content(rest) {
                Stage::Content(number)
            } else {
                Stage::Marked
            };
        } else if after_marker(line, b"...").is_some() {
            cut(from, end, start, stage);
            (from, start, stage) = (end, number + 1, Stage::Before);
        } else if !matches!(stage, Stage::Content(_)) && has_content(line) {
            let directive = stage == Stage::Before && line.starts_with(b"%");
            if !directive {
                stage = Stage::Content(number);
            }
        }
        position = end;
    }
    cut(from, position, start, stage);
    documents
}

fn after_marker<'l>(line: &'l [u8], marker: &[u8]) -> Option<&'l [u8]> {
    line.strip_prefix(marker)
        .filter(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

fn has_content(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    !line.is_empty() && !line.starts_with(b"#")
}
