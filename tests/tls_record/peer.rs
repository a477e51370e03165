//! A TLS 1.3 client whose records are made by the test: any type, any content, any padding.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use holdfast::tls::server::provider;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite};

use crate::wire::{Ends, NAME, Server, handshake};

pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;
pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];
pub const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
pub const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => unreachable!(),
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            sequence,
        }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let number = u128::from(self.sequence).to_be_bytes();
        for (to, from) in nonce.iter_mut().zip(&number[4..]) {
            *to ^= from;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// A client with its keys in the open.
pub struct Peer {
    send: Keys,
    receive: Keys,
    schedule: KernelConnection<ClientConnectionData>,
    received: Vec<u8>,
}

impl Peer {
    /// A connection of any suite.
    pub fn connect() -> (Server, Self) {
        Self::connect_by(&Ends::new(&rustls::version::TLS13))
    }

    pub fn connect_with(suite: SupportedCipherSuite) -> (Server, Self) {
        Self::connect_by(&Ends::of(suite))
    }

    pub fn connect_by(ends: &Ends) -> (Server, Self) {
        let mut config = (*ends.client).clone();
        config.enable_secret_extraction = true;
        let name = ServerName::try_from(NAME).unwrap();
        let mut client = UnbufferedClientConnection::new(config.into(), name).unwrap();
        let mut incoming = Vec::new();
        let server = handshake(&ends.server, |wire| {
            incoming.extend(wire.take());
            wire.feed(&turn(&mut client, &mut incoming));
        });
        let (secrets, schedule) = client.dangerous_into_kernel_connection().unwrap();
        let peer = Self {
            send: Keys::new(secrets.tx),
            receive: Keys::new(secrets.rx),
            schedule,
            received: incoming,
        };
        (server.unwrap(), peer)
    }

    /// A protected record.
    pub fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        self.inner(&[content, &[kind], &vec![0; padding]].concat())
    }

    /// A protected record of what should be content, type and padding.
    pub fn inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut sealed = inner.to_vec();
        let length = u16::try_from(sealed.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let nonce = self.send.nonce();
        self.send
            .key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed)
            .unwrap();
        [&header[..], &sealed].concat()
    }

    /// A KeyUpdate; what follows is protected by the next keys.
    pub fn key_update(&mut self, message: &[u8]) -> Vec<u8> {
        let record = self.record(HANDSHAKE, message, 0);
        self.next_keys();
        record
    }

    pub fn next_keys(&mut self) {
        self.send = Keys::new(self.schedule.update_tx_secret().unwrap());
    }

    /// Opens what the server has sent, tickets left out, and follows its KeyUpdates.
    pub fn open(&mut self, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.received.extend(bytes);
        let mut records = Vec::new();
        let mut received = std::mem::take(&mut self.received);
        let mut rest = received.as_mut_slice();
        while let Some(&header @ [kind, 3, 3, high, low]) = rest.first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if rest.len() < 5 + length {
                break;
            }
            assert_eq!(kind, DATA);
            let (record, behind) = std::mem::take(&mut rest).split_at_mut(5 + length);
            rest = behind;
            let nonce = self.receive.nonce();
            let aad = Aad::from(header);
            let inner = self.receive.key.open_in_place(nonce, aad, &mut record[5..]);
            let inner = inner.expect("keys and sequence numbers of both ends agree");
            let end = inner.iter().rposition(|&byte| byte != 0).unwrap();
            let (kind, content) = (inner[end], inner[..end].to_vec());
            if kind == HANDSHAKE && content[0] == 4 {
                continue;
            }
            if kind == HANDSHAKE {
                assert_eq!(content, KEY_UPDATE);
                self.receive = Keys::new(self.schedule.update_rx_secret().unwrap());
            }
            records.push((kind, content));
        }
        self.received = rest.to_vec();
        records
    }
}

/// Takes the client as far as what has come allows.
fn turn(client: &mut UnbufferedClientConnection, incoming: &mut Vec<u8>) -> Vec<u8> {
    let mut outgoing = Vec::new();
    loop {
        let status = client.process_tls_records(incoming);
        let discard = status.discard;
        let blocked = match status.state.unwrap() {
            ConnectionState::EncodeTlsData(mut message) => {
                let mut buffer = vec![0; 32 << 10];
                let written: Result<usize, EncodeError> = message.encode(&mut buffer);
                outgoing.extend(&buffer[..written.unwrap()]);
                false
            }
            ConnectionState::TransmitTlsData(message) => {
                message.done();
                false
            }
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
            other => panic!("{other:?}"),
        };
        incoming.drain(..discard);
        if blocked {
            return outgoing;
        }
    }
}

/// The suites of TLS 1.3.
pub fn suites() -> Vec<SupportedCipherSuite> {
    let suites = provider().cipher_suites.clone();
    suites
        .into_iter()
        .filter(|suite| suite.tls13().is_some())
        .collect()
}
