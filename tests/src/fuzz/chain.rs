//! What a node of the chain answers: the metagraph, by the metadata that the node itself sends.
//!
//! The first byte chooses: an answer under plain metadata (0) or under wrapped numbers (1), or the
//! metadata itself (2). A little-endian length and that many numbers of trust stand before an answer.

use std::net::SocketAddr;
use std::sync::OnceLock;

use ptn_core::chain::Neuron;
use ptn_core::chain::mock::{AnswerReader, MockNeuron, MockRuntime};
use ptn_core::sign::ss58;
use ptn_core::transport::address::AddressPolicy;

/// See the module.
pub fn chain(data: &[u8]) {
    let Some((selector, rest)) = data.split_first() else { return };
    match selector % 3 {
        2 => metadata(rest),
        spelling => {
            let Some((count, rest)) = rest.split_first() else { return };
            let bytes = 2 * usize::from(*count).min(rest.len() / 2);
            let (trust, answer) = rest.split_at(bytes);
            let trust: Vec<u16> =
                trust.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            metagraph(&readers()[usize::from(spelling)], answer, &trust);
        }
    }
}

/// The two spellings of numbers that runtimes have.
pub(super) fn readers() -> &'static [AnswerReader; 2] {
    static READERS: OnceLock<[AnswerReader; 2]> = OnceLock::new();
    READERS.get_or_init(|| {
        [MockRuntime::plain(393), MockRuntime::newtypes(393)]
            .map(|runtime| AnswerReader::new(runtime).expect("our own metadata"))
    })
}

fn metagraph(reader: &AnswerReader, answer: &[u8], trust: &[u16]) {
    match reader.metagraph(answer, trust) {
        Ok(None) => assert!(answer.len() <= 1, "{} bytes are no subnet", answer.len()),
        Ok(Some(neurons)) => neurons.iter().enumerate().for_each(|(i, n)| neuron(i, n, trust)),
        // It names types of the runtime, and is cut before anybody sees it.
        Err(why) => assert!(!why.is_empty()),
    }
}

fn neuron(i: usize, neuron: &Neuron, trust: &[u16]) {
    assert_eq!(usize::from(neuron.uid), i);
    assert!(ss58::decode(&neuron.hotkey).is_ok() && ss58::decode(&neuron.coldkey).is_ok());
    assert_eq!(neuron.validator_trust.0, trust.get(i).copied().unwrap_or_default());
    if let Some(axon) = neuron.axon {
        assert!(axon.port() != 0 && !axon.ip().is_unspecified(), "{axon}");
        // Whatever is let through on public networks is as public under its other spelling.
        let plain = SocketAddr::new(axon.ip().to_canonical(), axon.port());
        let policy = AddressPolicy::Public;
        assert_eq!(policy.check(axon), policy.check(plain), "{axon}");
        if let (Ok(()), std::net::IpAddr::V4(ip)) = (policy.check(axon), plain.ip()) {
            assert!(!ip.is_private() && !ip.is_loopback() && !ip.is_link_local(), "{axon}");
        }
    }
}

/// Metadata that is damaged is refused, or can be read by.
fn metadata(bytes: &[u8]) {
    match AnswerReader::new(MockRuntime::real(1, bytes.to_vec())) {
        // The words of the decoder; the client cleans and cuts them.
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(reader) => {
            for answer in [&[][..], &[0], &[1; 64]] {
                drop(reader.metagraph(answer, &[]));
            }
        }
    }
}

/// Good answers, and the metadata, for a first corpus.
///
/// # Panics
/// When the mock cannot make them.
pub fn chain_seeds() -> Vec<Vec<u8>> {
    let key = |n: u8| ss58::encode(&[n; 32]);
    let neurons: Vec<MockNeuron> = ["93.184.216.34:8091", "[2600::1]:80", "[::ffff:127.0.0.1]:1"]
        .iter()
        .zip(1..)
        .map(|(axon, n)| {
            let axon = axon.parse().expect("an address");
            MockNeuron::validator(&key(n), &key(n + 100), axon, 65535)
        })
        .collect();
    let mut seeds = Vec::new();
    for (spelling, reader) in (0..).zip(readers()) {
        for some in [&neurons[..0], &neurons[..1], &neurons] {
            let answer = reader.metagraph_of(some.to_vec()).expect("an answer");
            seeds.push([&[spelling, 2, 255, 255, 1, 0][..], &answer].concat());
        }
        seeds.push(vec![spelling, 0, 0]);
        seeds.push([&[2], reader.metadata()].concat());
    }
    seeds
}
