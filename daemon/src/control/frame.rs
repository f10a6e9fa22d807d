//! Frames on the control socket: four bytes of length, big-endian, then that many bytes of JSON.

use std::{
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// The most bytes of JSON in one frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes of the length that stands before each frame.
const HEADER_BYTES: usize = 4;

/// Bytes that are taken from the socket at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Descriptors that may travel with one frame.
const DESCRIPTORS_MAX: usize = 2;

/// Why the bytes on the socket are no frame. The connection cannot go on after any of these.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length above the bound.
    #[error("a frame of {length} bytes: at most {FRAME_BYTES_MAX} are taken")]
    TooLarge {
        /// As announced.
        length: usize,
    },
    /// The bytes are not the JSON of a message.
    #[error("a frame that is no message: {0}")]
    Malformed(#[source] serde_json::Error),
    /// Descriptors that no frame speaks of.
    #[error("more descriptors than one frame may bring")]
    Descriptors,
    /// The other side left in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Torn,
    /// The socket failed.
    #[error("the control socket: {0}")]
    Io(#[from] io::Error),
}

/// The frame of a message.
///
/// # Errors
/// [`FrameError::TooLarge`] when it exceeds the bound.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Malformed)?;
    let length = frame.len() - HEADER_BYTES;
    let header = u32::try_from(length)
        .ok()
        .filter(|_| length <= FRAME_BYTES_MAX)
        .ok_or(FrameError::TooLarge { length })?;
    frame[..HEADER_BYTES].copy_from_slice(&header.to_be_bytes());
    Ok(frame)
}

/// Puts pieces of a stream together to messages. Holds no more than one frame and one piece.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// Descriptors that may wait for the frame that speaks of them.
    descriptors_max: usize,
}

impl Default for FrameReader {
    /// For a conversation in which a frame brings one descriptor at most.
    fn default() -> Self {
        Self { bytes: Vec::new(), descriptors: Vec::new(), descriptors_max: 1 }
    }
}

impl FrameReader {
    /// For a conversation in which a frame may bring two descriptors.
    pub fn of_pairs() -> Self {
        Self { descriptors_max: DESCRIPTORS_MAX, ..Self::default() }
    }

    /// Takes the next piece from `socket`, with the descriptors that travel with it. Returns its
    /// length, 0 when the other side has left between two frames. Works on blocking and on
    /// non-blocking sockets.
    ///
    /// # Errors
    /// [`FrameError::Torn`], [`FrameError::Descriptors`], [`FrameError::Io`].
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, FrameError> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut piece)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            // The other side died before it read what we had sent: an end like any other.
            Err(rustix::io::Errno::CONNRESET) => return Ok(0),
            result => result.map_err(io::Error::from)?,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.take(&piece[..received.bytes])?;
        Ok(received.bytes)
    }

    /// Waits for the next message on a blocking socket.
    ///
    /// # Errors
    /// As [`FrameReader::receive`] and [`FrameReader::message`]; [`FrameError::Torn`] when the other side
    /// has left.
    pub fn next_message<T: DeserializeOwned>(
        &mut self,
        socket: impl AsFd,
    ) -> Result<T, FrameError> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(message);
            }
            if self.receive(socket.as_fd())? == 0 {
                return Err(FrameError::Torn);
            }
        }
    }

    /// The next whole message, `None` while there is none.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] as soon as the length is known, [`FrameError::Malformed`].
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { length });
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(frame).map_err(FrameError::Malformed)?;
        self.bytes.drain(..HEADER_BYTES + length);
        Ok(Some(message))
    }

    /// The descriptor that came with the frames read so far.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop()
    }

    /// The two descriptors that came with the frames read so far, in the order in which they were
    /// sent.
    pub fn pair(&mut self) -> Option<[OwnedFd; 2]> {
        std::mem::take(&mut self.descriptors).try_into().ok()
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        if piece.is_empty() && !self.bytes.is_empty() {
            return Err(FrameError::Torn);
        }
        if self.descriptors.len() > self.descriptors_max {
            return Err(FrameError::Descriptors);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// Writes one frame, with a descriptor travelling on its first bytes.
///
/// # Errors
/// What the socket says.
pub fn send(
    socket: &UnixStream,
    frame: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    send_with(socket, frame, descriptor.as_slice())
}

/// Writes one frame, with descriptors travelling on its first bytes, two at most.
///
/// # Errors
/// What the socket says.
pub fn send_with(
    mut socket: &UnixStream,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if descriptors.is_empty() {
        return socket.write_all(frame);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one frame"));
    }
    let sent =
        sendmsg(socket.as_fd(), &[IoSlice::new(frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
    socket.write_all(&frame[sent..])
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Value>, FrameError> {
        let mut reader = FrameReader::default();
        reader.take(bytes)?;
        reader.message()
    }

    #[test]
    fn a_length_above_the_bound_is_refused_before_its_bytes_arrive() {
        let length = u32::try_from(FRAME_BYTES_MAX).unwrap();
        assert!(matches!(read(&u32::MAX.to_be_bytes()), Err(FrameError::TooLarge { .. })));
        assert!(matches!(read(&(length + 1).to_be_bytes()), Err(FrameError::TooLarge { .. })));
        assert!(matches!(read(&length.to_be_bytes()), Ok(None)));
    }

    #[test]
    fn a_frame_without_any_bytes_is_no_message() {
        assert!(matches!(read(&0_u32.to_be_bytes()), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn json_that_is_nested_without_end_is_refused() {
        let mut bytes = 100_000_u32.to_be_bytes().to_vec();
        bytes.extend("[".repeat(100_000).bytes());
        assert!(matches!(read(&bytes), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn a_message_above_the_bound_is_not_sent() {
        let text = "x".repeat(FRAME_BYTES_MAX - 2);
        assert!(encode(&text).is_ok());
        let text = "x".repeat(FRAME_BYTES_MAX - 1);
        assert!(matches!(encode(&text), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn leaving_in_the_middle_of_a_frame_is_told_from_leaving_after_it() {
        let frame = encode(&json!("whole")).unwrap();
        let mut reader = FrameReader::default();
        reader.take(&frame).unwrap();
        reader.message::<Value>().unwrap();
        reader.take(&[]).unwrap();
        reader.take(&frame[..frame.len() - 1]).unwrap();
        assert!(matches!(reader.take(&[]), Err(FrameError::Torn)));
    }

    #[test]
    fn a_descriptor_travels_with_its_frame() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let frame = encode(&json!("key")).unwrap();
        send(&here, &frame, Some(file.as_fd())).unwrap();
        let mut reader = FrameReader::default();
        reader.receive(there.as_fd()).unwrap();
        assert_eq!(reader.message::<Value>().unwrap(), Some(json!("key")));
        assert!(reader.descriptor().is_some());
        assert!(reader.descriptor().is_none());
    }

    #[test]
    fn descriptors_that_nobody_asked_for_end_the_connection() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        let frame = encode(&json!("key")).unwrap();
        let mut reader = FrameReader::default();
        send(&here, &frame, Some(file.as_fd())).unwrap();
        reader.receive(there.as_fd()).unwrap();
        send(&here, &frame, Some(file.as_fd())).unwrap();
        assert!(matches!(reader.receive(there.as_fd()), Err(FrameError::Descriptors)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = FrameReader::default();
            if reader.take(&bytes).is_ok() {
                while let Ok(Some(_)) = reader.message::<crate::control::FromClient>() {}
            }
        }

        #[test]
        fn messages_arrive_whole_however_they_are_cut(
            texts in prop::collection::vec(".{0,50}", 0..10),
            cut in 1_usize..40,
        ) {
            let stream: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
            let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
            for piece in stream.chunks(cut) {
                reader.take(piece).unwrap();
                while let Some(text) = reader.message::<String>().unwrap() {
                    seen.push(text);
                }
            }
            prop_assert_eq!(seen, texts);
        }
    }
}
