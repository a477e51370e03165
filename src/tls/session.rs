//! A TLS connection after its handshake, reduced to keys and counters.
//!
//! ```text
//! record ─▶ open ─▶ data | KeyUpdate: next receiving keys, an answer is due | alert: end or fault
//! data ─▶ (KeyUpdate: next sending keys) ─▶ seal ─▶ record
//! ```
//!
//! No I/O and no buffer. rustls does the handshake and derives the keys that follow a KeyUpdate;
//! certificates, transcripts and the buffers of a handshake are given up when it is over.

use std::io::IoSlice;

use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, InvalidMessage, PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
};

use super::protection::{Fault, Header, MAX_CONTENT, RecordProtection, Version};

/// Records without data in a row. More is a peer that only wants us to work.
const MAX_FRUITLESS: u8 = 32;
/// A KeyUpdate (RFC 8446 §4.6.3): type, length and one byte.
const KEY_UPDATE: usize = 5;
const ALERT_WARNING: u8 = 1;
const ALERT_FATAL: u8 = 2;

/// The keys of both directions and what the protocol remembers between records.
pub(super) struct Session {
    receive: RecordProtection,
    send: RecordProtection,
    version: Version,
    /// Records that the sending keys may protect (RFC 8446 §5.5).
    limit: u64,
    /// Derives further keys; TLS 1.2 has none.
    schedule: Option<Box<KernelConnection<ServerConnectionData>>>,
    /// A KeyUpdate may come in pieces.
    fragment: [u8; KEY_UPDATE],
    fragment_length: usize,
    /// The peer has asked for new keys of ours.
    update_due: bool,
    fruitless: u8,
}

/// What a record was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// Application data, at least one byte.
    Data(&'a [u8]),
    /// Nothing for the application.
    Nothing,
    /// The peer's close_notify.
    Closed,
}

impl Session {
    /// Takes a connection over from rustls.
    pub(super) fn new(
        secrets: ExtractedSecrets,
        schedule: KernelConnection<ServerConnectionData>,
    ) -> Self {
        let version = match schedule.protocol_version() {
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => Version::Tls12,
        };
        let limit = match schedule.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Self {
            receive: RecordProtection::new(version, secrets.rx),
            send: RecordProtection::new(version, secrets.tx),
            version,
            limit,
            schedule: (version == Version::Tls13).then(|| Box::new(schedule)),
            fragment: [0; KEY_UPDATE],
            fragment_length: 0,
            update_due: false,
            fruitless: 0,
        }
    }

    /// The head of the next record, if it has come.
    pub(super) fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Fault> {
        Header::parse(bytes, self.version)
    }

    /// Gives up what can be made again from the keys.
    pub(super) fn rest(&mut self) {
        self.receive.rest();
        self.send.rest();
    }

    /// Opens a record, in place, and does what it says.
    pub(super) fn open<'a>(
        &mut self,
        header: Header,
        body: &'a mut [u8],
    ) -> Result<Content<'a>, Fault> {
        let (kind, content) = self.receive.open(header, body)?;
        // RFC 8446 §5.1: nothing comes between the pieces of a message.
        if self.fragment_length > 0 && kind != ContentType::Handshake {
            return Err(Fault::unexpected("a record within a handshake message"));
        }
        match kind {
            ContentType::ApplicationData if !content.is_empty() => {
                self.fruitless = 0;
                return Ok(Content::Data(content));
            }
            ContentType::ApplicationData => {}
            ContentType::Alert => {
                if self.alert(content)? {
                    return Ok(Content::Closed);
                }
            }
            ContentType::Handshake => self.handshake(content)?,
            _ => return Err(Fault::unexpected("a record of this type")),
        }
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS {
            return Err(Fault::fruitless());
        }
        Ok(Content::Nothing)
    }

    /// Whether it is close_notify.
    fn alert(&self, content: &[u8]) -> Result<bool, Fault> {
        let &[level, description] = content else {
            return Err(Fault::new(
                AlertDescription::DecodeError,
                InvalidMessage::MessageTooShort,
            ));
        };
        // RFC 8446 §6: the level means nothing any more.
        let harmless = match self.version {
            Version::Tls12 => level == ALERT_WARNING,
            Version::Tls13 => false,
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(true),
            AlertDescription::UserCanceled => Ok(false),
            _ if harmless => Ok(false),
            description => Err(Fault {
                alert: None,
                error: Error::AlertReceived(description),
            }),
        }
    }

    fn handshake(&mut self, content: &[u8]) -> Result<(), Fault> {
        // Renegotiation has been the way into several attacks; no client needs it.
        if self.version == Version::Tls12 {
            return Err(Fault::new(
                AlertDescription::UnexpectedMessage,
                PeerMisbehaved::TooManyRenegotiationRequests,
            ));
        }
        // RFC 8446 §5.1.
        if content.is_empty() {
            return Err(Fault::unexpected("an empty piece of a handshake message"));
        }
        let room = KEY_UPDATE - self.fragment_length;
        let (piece, behind) = content.split_at(room.min(content.len()));
        self.fragment
            .iter_mut()
            .skip(self.fragment_length)
            .zip(piece)
            .for_each(|(to, from)| *to = *from);
        self.fragment_length += piece.len();
        let message = self.fragment.get(..self.fragment_length);
        match message.unwrap_or_default() {
            [24] | [24, 0] | [24, 0, 0] | [24, 0, 0, 1] => Ok(()),
            [24, 0, 0, 1, request @ (0 | 1)] => {
                // RFC 8446 §5.1: what follows is protected by other keys.
                if !behind.is_empty() {
                    return Err(Fault::unexpected("a message behind a KeyUpdate"));
                }
                self.update_due |= *request == 1;
                self.fragment_length = 0;
                let next = self.next_keys(KernelConnection::update_rx_secret)?;
                self.receive = RecordProtection::new(self.version, next);
                Ok(())
            }
            [24, 0, 0, 1, _] => Err(Fault::new(
                AlertDescription::IllegalParameter,
                InvalidMessage::InvalidKeyUpdate,
            )),
            [24, ..] => Err(Fault::new(
                AlertDescription::DecodeError,
                InvalidMessage::InvalidKeyUpdate,
            )),
            _ => Err(Fault::unexpected("a handshake message")),
        }
    }

    /// Appends records of what `data` holds, at most `records` of them, and returns how many
    /// bytes went in.
    pub(super) fn seal(
        &mut self,
        data: &[IoSlice<'_>],
        records: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        let mut rest = data.iter().map(|slice| &**slice);
        let mut slice: &[u8] = &[];
        let mut taken = 0;
        for _ in 0..records {
            while slice.is_empty() {
                match rest.next() {
                    Some(next) => slice = next,
                    None => return Ok(taken),
                }
            }
            self.refresh(out)?;
            self.send.seal(ContentType::ApplicationData, out, |out| {
                let mut room = MAX_CONTENT;
                while room > 0 && !slice.is_empty() {
                    let (now, later) = slice.split_at(room.min(slice.len()));
                    out.extend_from_slice(now);
                    room -= now.len();
                    taken += now.len();
                    slice = later;
                    while slice.is_empty() {
                        match rest.next() {
                            Some(next) => slice = next,
                            None => break,
                        }
                    }
                }
            })?;
        }
        Ok(taken)
    }

    /// Appends our close_notify.
    pub(super) fn seal_close(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.seal_alert(ALERT_WARNING, AlertDescription::CloseNotify, out)
    }

    /// Appends a fatal alert.
    pub(super) fn seal_fatal(
        &mut self,
        alert: AlertDescription,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.seal_alert(ALERT_FATAL, alert, out)
    }

    fn seal_alert(
        &mut self,
        level: u8,
        alert: AlertDescription,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.send.seal(ContentType::Alert, out, |out| {
            out.extend_from_slice(&[level, alert.into()]);
        })
    }

    /// Changes the sending keys before the next data if the peer asked for it, or if they have
    /// protected as much as they may. However often the peer asked, one change answers it
    /// (RFC 8446 §4.6.3).
    fn refresh(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if !self.update_due && self.send.sequence() < self.limit {
            return Ok(());
        }
        self.update_due = false;
        let message = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
        let next = self.next_keys(KernelConnection::update_tx_secret)?;
        self.send.seal(ContentType::Handshake, out, |out| {
            out.extend_from_slice(&message);
        })?;
        self.send = RecordProtection::new(self.version, next);
        Ok(())
    }

    fn next_keys(
        &mut self,
        derive: impl FnOnce(
            &mut KernelConnection<ServerConnectionData>,
        ) -> Result<(u64, ConnectionTrafficSecrets), Error>,
    ) -> Result<(u64, ConnectionTrafficSecrets), Fault> {
        let internal = |error| Fault::new(AlertDescription::InternalError, error);
        // TLS 1.2 ends where its keys may protect no more.
        let schedule = self
            .schedule
            .as_deref_mut()
            .ok_or_else(|| internal(Error::EncryptError))?;
        derive(schedule).map_err(internal)
    }
}
