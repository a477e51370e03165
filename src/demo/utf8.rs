//! UTF-8 that arrives in pieces.

/// Checks text piece by piece; a piece may end in the middle of a character.
#[derive(Default)]
pub(super) struct Utf8Check {
    /// The beginning of a character that the last piece ended in.
    begun: Vec<u8>,
}

/// The text is not UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

impl Utf8Check {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        // At most three bytes go here, one at a time, until the begun character is whole.
        while !self.begun.is_empty() {
            let Some((next, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            self.begun.push(*next);
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                self.begun
                    .extend_from_slice(piece.get(error.valid_up_to()..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The text is over: no character may be left half.
    pub(super) fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if std::mem::take(&mut self.begun).is_empty() {
            Ok(())
        } else {
            Err(InvalidUtf8)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &[u8], cuts: &[usize]) -> Result<(), InvalidUtf8> {
        let mut check = Utf8Check::default();
        let mut rest = text;
        for cut in cuts {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            check.feed(piece)?;
            rest = tail;
        }
        check.feed(rest)?;
        check.finish()
    }

    proptest! {
        /// However it is cut, the verdict is that of the standard library on the whole.
        #[test]
        fn pieces_are_judged_as_the_whole(
            text in prop_oneof![
                "\\PC{0,20}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..12),
                ("\\PC{1,10}", 0..10_usize).prop_map(|(text, cut)| {
                    let mut bytes = text.into_bytes();
                    bytes.truncate(cut);
                    bytes
                }),
            ],
            cuts in proptest::collection::vec(0..4_usize, 0..20),
        ) {
            prop_assert_eq!(check(&text, &cuts).is_ok(), std::str::from_utf8(&text).is_ok());
        }
    }
}
