//! Loop devices: an image file as a block device, for kernels whose EROFS cannot mount a file
//! (before Linux 6.12). The device goes away by itself with its last user.

#![expect(unsafe_code, reason = "no safe wrapper has the ioctls of loop devices")]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// How often a free device may be taken by somebody else before we give up.
const ATTEMPT_COUNT_MAX: usize = 64;

const LOOP_CONTROL: &str = "/dev/loop-control";
/// `LOOP_CTL_GET_FREE` of linux/loop.h.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// `LOOP_CONFIGURE` of linux/loop.h (Linux 5.8).
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_NAME_SIZE: usize = 64;
const LO_KEY_SIZE: usize = 32;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; LO_NAME_SIZE],
    crypt_name: [u8; LO_NAME_SIZE],
    encrypt_key: [u8; LO_KEY_SIZE],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

// Sizes on every architecture with 64-bit alignment of u64, as the kernel checks them.
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// A configured device. It exists as long as this value or a mount of it does.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) path: PathBuf,
    /// Keeps the device from being cleared before it is mounted.
    _device: File,
}

impl LoopDevice {
    /// A read-only device over `image`.
    pub(crate) fn attach(image: &Path) -> Result<Self, Error> {
        let backing = File::open(image).map_err(|error| Error::system("open", image, error))?;
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(LOOP_CONTROL)
            .map_err(|error| Error::system("open", Path::new(LOOP_CONTROL), error))?;
        for _ in 0..ATTEMPT_COUNT_MAX {
            let number = free_number(&control).map_err(|error| {
                Error::system("get a loop device from", LOOP_CONTROL.as_ref(), error)
            })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::open(&path).map_err(|error| Error::system("open", &path, error))?;
            match configure(&device, &backing, image) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        _device: device,
                    });
                }
                // Somebody else was faster; the next number will do.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => {
                    let operation = format!("attach {} to", path.display());
                    return Err(Error::system(operation, image, error));
                }
            }
        }
        let error = io::Error::from_raw_os_error(libc::EBUSY);
        Err(Error::system("attach a loop device to", image, error))
    }
}

fn free_number(control: &File) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours; the descriptor
    // is open as long as `control` is borrowed.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    if number < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(number)
    }
}

fn configure(device: &File, backing: &File, image: &Path) -> io::Result<()> {
    let config = LoopConfig {
        // Descriptors of open files are never negative.
        fd: backing.as_raw_fd().cast_unsigned(),
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: shown_name(image),
            crypt_name: [0; LO_NAME_SIZE],
            encrypt_key: [0; LO_KEY_SIZE],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout LoopConfig has (asserted
    // above), and keeps no pointer to it; both descriptors are open as long as they are borrowed.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The name that losetup shows, cut to what fits with a terminating zero.
fn shown_name(image: &Path) -> [u8; LO_NAME_SIZE] {
    let bytes = image.as_os_str().as_encoded_bytes();
    let mut name = [0; LO_NAME_SIZE];
    let length = bytes.len().min(LO_NAME_SIZE - 1);
    name[..length].copy_from_slice(&bytes[..length]);
    name
}
