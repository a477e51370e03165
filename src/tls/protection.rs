//! Record protection: one direction of a TLS connection after its handshake.
//!
//! ```text
//! content ─▶ content ‖ type (1.3) ─▶ AEAD(key, IV ⊕ sequence number) ─▶ header ‖ ciphertext ‖ tag
//! ```
//!
//! TLS 1.3 by RFC 8446 §5.2, TLS 1.2 by RFC 5246 §6.2.3.3 with AES-GCM (RFC 5288) or
//! ChaCha20-Poly1305 (RFC 7905). What is kept is the key, the IV and the sequence number; the
//! expanded key, ten times as large, is made when a record needs it (0.25 µs) and given up by
//! [`RecordProtection::rest`].

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, PeerMisbehaved,
};

/// Type, version and length of a record (RFC 8446 §5.1).
pub(super) const HEADER: usize = 5;
/// Longest content of a record.
pub(super) const MAX_CONTENT: usize = 1 << 14;
/// What a record may be longer than its content: RFC 8446 §5.2, RFC 5246 §6.2.3.
const MAX_EXPANSION_13: usize = 256;
const MAX_EXPANSION_12: usize = 2048;
/// Longest record of either version, with its header.
pub(super) const MAX_RECORD: usize = HEADER + MAX_CONTENT + MAX_EXPANSION_12;
/// `legacy_record_version`, and the version of TLS 1.2.
const RECORD_VERSION: [u8; 2] = [3, 3];
const TAG: usize = 16;
const NONCE: usize = 12;
/// The part of an AES-GCM nonce of TLS 1.2 that each record carries (RFC 5288 §3).
const EXPLICIT_NONCE: usize = 8;

/// Why a connection cannot go on.
#[derive(Debug)]
pub(super) struct Fault {
    /// What the peer is told; `None` where it was the peer who said so.
    pub(super) alert: Option<AlertDescription>,
    /// What we are told.
    pub(super) error: Error,
}

impl Fault {
    pub(super) fn new(alert: AlertDescription, error: impl Into<Error>) -> Self {
        Self {
            alert: Some(alert),
            error: error.into(),
        }
    }

    /// For what must not come in this place.
    pub(super) fn unexpected(what: &'static str) -> Self {
        Self::new(
            AlertDescription::UnexpectedMessage,
            InvalidMessage::UnexpectedMessage(what),
        )
    }

    /// For nothing but records that carry nothing.
    pub(super) fn fruitless() -> Self {
        Self::new(
            AlertDescription::UnexpectedMessage,
            PeerMisbehaved::TooManyEmptyFragments,
        )
    }

    fn too_long() -> Self {
        Self::new(
            AlertDescription::RecordOverflow,
            Error::PeerSentOversizedRecord,
        )
    }

    fn bad_record() -> Self {
        Self::new(AlertDescription::BadRecordMac, Error::DecryptError)
    }

    fn internal() -> Self {
        Self::new(AlertDescription::InternalError, Error::EncryptError)
    }
}

/// The versions that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

/// The head of a record that is to be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; HEADER],
    /// Bytes that follow it.
    pub(super) length: usize,
}

impl Header {
    /// Reads the head of a record; `None` = there is not enough of it yet.
    pub(super) fn parse(bytes: &[u8], version: Version) -> Result<Option<Self>, Fault> {
        let Some(&bytes) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, major, minor, high, low] = bytes;
        let length = usize::from(u16::from_be_bytes([high, low]));
        // After the handshake of TLS 1.3 everything is of this type (RFC 8446 §5.2).
        if version == Version::Tls13 && kind != u8::from(ContentType::ApplicationData) {
            return Err(Fault::unexpected("a record without protection"));
        }
        // RFC 8446 §5.1 has it ignored.
        if version == Version::Tls12 && [major, minor] != RECORD_VERSION {
            return Err(Fault::new(
                AlertDescription::ProtocolVersion,
                InvalidMessage::UnknownProtocolVersion,
            ));
        }
        let expansion = match version {
            Version::Tls12 => MAX_EXPANSION_12,
            Version::Tls13 => MAX_EXPANSION_13,
        };
        if length > MAX_CONTENT + expansion {
            return Err(Fault::too_long());
        }
        Ok(Some(Self { bytes, length }))
    }

    fn seal(kind: ContentType, length: usize) -> Self {
        let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let [major, minor] = RECORD_VERSION;
        Self {
            bytes: [kind.into(), major, minor, high, low],
            length,
        }
    }
}

/// The keys of one direction and how many records they have protected.
pub(super) struct RecordProtection {
    secrets: ConnectionTrafficSecrets,
    version: Version,
    sequence: u64,
    cipher: Option<LessSafeKey>,
}

impl RecordProtection {
    /// Goes on after `sequence` records.
    pub(super) fn new(
        version: Version,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Self {
        Self {
            secrets,
            version,
            sequence,
            cipher: None,
        }
    }

    /// How many records these keys have protected.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Gives up the expanded key until the next record.
    pub(super) fn rest(&mut self) {
        self.cipher = None;
    }

    /// Takes the protection off a record, in place: its type and its content.
    pub(super) fn open<'a>(
        &mut self,
        header: Header,
        body: &'a mut [u8],
    ) -> Result<(ContentType, &'a [u8]), Fault> {
        let (explicit, sealed) = body
            .split_at_mut_checked(self.explicit_nonce())
            .ok_or_else(Fault::bad_record)?;
        let length = sealed
            .len()
            .checked_sub(TAG)
            .ok_or_else(Fault::bad_record)?;
        let nonce = self.nonce(explicit);
        let mut data = [0; 13];
        let data = self.additional_data(&mut data, header, length);
        let plain = self
            .cipher()?
            .open_in_place(nonce, data, sealed)
            .map_err(|_| Fault::bad_record())?;
        self.count()?;
        let (kind, content) = match self.version {
            Version::Tls12 => {
                let [kind, ..] = header.bytes;
                (kind, &*plain)
            }
            Version::Tls13 => unpad(plain)?,
        };
        if content.len() > MAX_CONTENT {
            return Err(Fault::too_long());
        }
        Ok((kind.into(), content))
    }

    /// Appends a protected record of what `write` appends, which is at most [`MAX_CONTENT`].
    pub(super) fn seal(
        &mut self,
        kind: ContentType,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Fault> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        // As its own part of a nonce TLS 1.2 carries what it makes of the sequence number, so
        // both versions make it alike.
        let nonce = self.nonce(&[]);
        let explicit = nonce.as_ref().get(NONCE - self.explicit_nonce()..);
        out.extend_from_slice(explicit.unwrap_or_default());
        let at = out.len();
        write(out);
        let length = out.len() - at;
        let outer = match self.version {
            Version::Tls12 => kind,
            Version::Tls13 => {
                out.push(kind.into());
                ContentType::ApplicationData
            }
        };
        let header = Header::seal(outer, out.len() - start - HEADER + TAG);
        let mut data = [0; 13];
        let data = self.additional_data(&mut data, header, length);
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(nonce, data, out.get_mut(at..).unwrap_or_default())
            .map_err(|_| Fault::internal())?;
        out.extend_from_slice(tag.as_ref());
        if let Some(head) = out.get_mut(start..start + HEADER) {
            head.copy_from_slice(&header.bytes);
        }
        self.count()
    }

    /// A nonce is never used twice: the number goes up with every record.
    fn count(&mut self) -> Result<(), Fault> {
        self.sequence = self.sequence.checked_add(1).ok_or_else(Fault::internal)?;
        Ok(())
    }

    fn cipher(&mut self) -> Result<&LessSafeKey, Fault> {
        if self.cipher.is_none() {
            let (algorithm, key): (&'static Algorithm, _) = match &self.secrets {
                ConnectionTrafficSecrets::Aes128Gcm { key, .. } => (&AES_128_GCM, key),
                ConnectionTrafficSecrets::Aes256Gcm { key, .. } => (&AES_256_GCM, key),
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, .. } => (&CHACHA20_POLY1305, key),
                _ => return Err(Fault::internal()),
            };
            let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Fault::internal())?;
            self.cipher = Some(LessSafeKey::new(key));
        }
        self.cipher.as_ref().ok_or_else(Fault::internal)
    }

    /// How many bytes of the nonce a record carries.
    fn explicit_nonce(&self) -> usize {
        let chacha = matches!(
            self.secrets,
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. }
        );
        match self.version {
            Version::Tls12 if !chacha => EXPLICIT_NONCE,
            _ => 0,
        }
    }

    /// RFC 8446 §5.3; where the record carries a part of the nonce, that comes behind the salt
    /// instead.
    fn nonce(&self, explicit: &[u8]) -> Nonce {
        let iv = match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { iv, .. }
            | ConnectionTrafficSecrets::Aes256Gcm { iv, .. }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. } => iv.as_ref(),
            _ => &[],
        };
        let mut nonce = [0; NONCE];
        nonce.iter_mut().zip(iv).for_each(|(to, from)| *to = *from);
        if let Some(tail) = nonce.last_chunk_mut::<EXPLICIT_NONCE>() {
            match <&[u8; EXPLICIT_NONCE]>::try_from(explicit) {
                Ok(explicit) => *tail = *explicit,
                Err(_) => {
                    let number = self.sequence.to_be_bytes();
                    tail.iter_mut()
                        .zip(number)
                        .for_each(|(to, from)| *to ^= from);
                }
            }
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// RFC 8446 §5.2: the header. RFC 5246 §6.2.3.3: the sequence number and a header with the
    /// length of the content.
    fn additional_data<'a>(
        &self,
        into: &'a mut [u8; 13],
        header: Header,
        content: usize,
    ) -> Aad<&'a [u8]> {
        let used = match self.version {
            Version::Tls13 => {
                into.iter_mut()
                    .zip(header.bytes)
                    .for_each(|(to, from)| *to = from);
                HEADER
            }
            Version::Tls12 => {
                let [kind, major, minor, ..] = header.bytes;
                let [high, low] = u16::try_from(content).unwrap_or(u16::MAX).to_be_bytes();
                let number = self.sequence.to_be_bytes().into_iter();
                into.iter_mut()
                    .zip(number.chain([kind, major, minor, high, low]))
                    .for_each(|(to, from)| *to = from);
                into.len()
            }
        };
        Aad::from(into.get(..used).unwrap_or_default())
    }
}

/// Takes the padding off a `TLSInnerPlaintext` (RFC 8446 §5.4).
fn unpad(inner: &[u8]) -> Result<(u8, &[u8]), Fault> {
    if inner.len() > MAX_CONTENT + 1 {
        return Err(Fault::too_long());
    }
    let end = inner.iter().rposition(|&byte| byte != 0);
    let (content, kind) = end
        .and_then(|end| Some((inner.get(..end)?, inner.get(end)?)))
        .ok_or_else(|| Fault::unexpected("a record without a type"))?;
    Ok((*kind, content))
}
