//! Frames of a film from ffmpeg: a stream of PPM images through a pipe, never more than one of them in memory.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use pil_ops::Image;

/// The decoder.
const FFMPEG: &str = "ffmpeg";

/// A film that ffmpeg decodes.
pub(super) struct Pipe {
    path: PathBuf,
    child: Child,
    stream: BufReader<ChildStdout>,
}

impl Pipe {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut command = Command::new(FFMPEG);
        command.args(["-nostdin", "-v", "error", "-i"]).arg(path).args(["-f", "image2pipe", "-c:v", "ppm", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{}: films of this kind are read with {FFMPEG}, which is not on this machine; install it, or cut the film into \
                 numbered images elsewhere (ffmpeg -i FILM FOLDER/%05d.png) and give that folder",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| FFMPEG.to_owned()),
        };
        let stream = child.stdout.take().with_context(|| format!("{FFMPEG} has no output"))?;
        Ok(Self { path: path.to_owned(), child, stream: BufReader::new(stream) })
    }

    /// The next frame; none behind the last one.
    pub(super) fn frame(&mut self) -> Result<Option<Image>> {
        if self.stream.fill_buf().with_context(|| FFMPEG.to_owned())?.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                bail!("{}: {FFMPEG} gave up ({status}); what it says stands above", self.path.display());
            }
            return Ok(None);
        }
        ppm(&mut self.stream).map(Some).with_context(|| format!("{}: from {FFMPEG}", self.path.display()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A film that is left before its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one binary PPM image of 8 bits.
fn ppm(stream: &mut impl BufRead) -> Result<Image> {
    if word(stream)? != "P6" {
        bail!("not a stream of PPM images");
    }
    let mut size = [0usize; 3];
    for number in &mut size {
        *number = word(stream)?.parse().context("a PPM image without its size")?;
    }
    let [width, height, depth] = size;
    if depth != 255 || width > 65_535 || height > 65_535 {
        bail!("a PPM image of {width} x {height} with values up to {depth}: must be 8 bits and at most 65535 pixels a side");
    }
    let mut data = vec![0; width * height * 3];
    stream.read_exact(&mut data).context("a frame is cut off")?;
    Ok(Image::new(width, height, 3, data)?)
}

/// A word of the header, and the one space behind it.
fn word(stream: &mut impl Read) -> Result<String> {
    let mut text = String::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).context("the header of a frame is cut off")?;
        if byte[0].is_ascii_whitespace() {
            return Ok(text);
        }
        if text.len() >= 16 {
            bail!("not a stream of PPM images");
        }
        text.push(char::from(byte[0]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_follow_each_other() {
        let one = |value: u8| [&b"P6\n2 1\n255\n"[..], &[value; 6]].concat();
        let mut stream = std::io::Cursor::new([one(7), one(10)].concat());
        for value in [7, 10] {
            let image = ppm(&mut stream).unwrap();
            assert_eq!((image.width(), image.height(), image.data()), (2, 1, &[value; 6][..]));
        }
        for broken in
            [&b"P5\n2 1\n255\n"[..], b"P6\n2 1\n65535\n", b"P6\n2 1\n255\n123", b"P6\n2 x\n", b"GIF89aGIF89aGIF89a", b"P"]
        {
            assert!(ppm(&mut std::io::Cursor::new(broken)).is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }
}
