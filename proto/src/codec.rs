//! How messages become bytes on a stream: as tonic does it, with buffers that begin small.
//!
//! tonic sets 8 KiB aside for each direction of each call, for as long as it lasts. Thousands of subscriptions last for days and carry
//! messages of a few hundred bytes, so that theirs begin with less; buffers of larger messages grow.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a buffer begins with.
const BUFFER: usize = 512;
/// Messages that are ready together are sent together up to this many bytes, as in tonic.
const TOGETHER: usize = 32 * 1024;

/// Encodes one kind of message and decodes another.
#[derive(Debug, Clone)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, TOGETHER))
    }
}
