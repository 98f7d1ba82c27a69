//! Goldens of kind `text-encoders`, and the encoder outputs in those of kind `evf`.

use anyhow::Result;
use text_encoders::check::cases;

use super::golden::Golden;

/// Runs the encoder cases of a file.
pub(super) fn run(golden: &mut Golden) -> Result<()> {
    let device = golden.device.clone();
    let expected = golden.expected();
    for case in cases(golden.metadata())? {
        match case.run(&device, |name| expected.iter().any(|e| e == name)) {
            Ok(outputs) => outputs.iter().for_each(|o| golden.compare_thinned(&o.name, &o.values)),
            // One case that cannot be built must not hide the others.
            Err(error) => golden.fail(case.name(), error.to_string()),
        }
    }
    Ok(())
}
