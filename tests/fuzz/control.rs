//! Frames on the control socket, from either side.

use std::{io::Write, os::unix::net::UnixStream};

use attestfs_daemon::control::{FrameReader, FromClient, FromDaemon, Hello, encode};
use serde::{Serialize, de::DeserializeOwned};

use crate::told::is_told;

target!("control", holds);

/// What a socket takes although nobody reads yet.
const STREAM_BYTES_MAX: usize = 64 << 10;

fn holds(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(STREAM_BYTES_MAX)];
    converse::<Hello>(bytes);
    converse::<FromClient>(bytes);
    converse::<FromDaemon>(bytes);
}

/// Each message says the same when it is sent on; the first that is none ends the connection.
fn converse<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(bytes).unwrap();
    drop(there);
    let mut reader = FrameReader::default();
    loop {
        match reader.next_message::<T>(&here) {
            Ok(message) => says_the_same_again(&message),
            Err(error) => return is_told(&error),
        }
    }
}

fn says_the_same_again<T: Serialize + DeserializeOwned>(message: &T) {
    let frame = encode(message).unwrap();
    let again: T = serde_json::from_slice(&frame[4..]).unwrap();
    assert_eq!(encode(&again).unwrap(), frame);
}
