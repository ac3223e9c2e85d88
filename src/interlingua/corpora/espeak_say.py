"""A separate program: text on standard input -> espeak-ng's speech as WAV on standard output.

``python espeak_say.py FOLDER VOICE RATE``; FOLDER holds the library and ``espeak-ng-data``. espeak-ng's noise continues
from text to text, so one process a text makes speech reproducible. No imports of the package: it starts quickly.
"""

import ctypes
import io
import sys
import wave
from pathlib import Path

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, and espeak_Synth returns when all are there
NEVER_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
UTF8 = 1  # espeakCHARS_UTF8
RATE = 1  # espeakRATE, in words a minute
LIBRARIES = {"win32": "espeak-ng.dll", "darwin": "libespeak-ng.dylib"}
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def say(folder: Path, voice: str, words_a_minute: int, text: str) -> bytes:
    """A WAV file of 16-bit mono at espeak-ng's own sample rate, at its default pitch."""
    espeak = ctypes.CDLL(str(folder / LIBRARIES.get(sys.platform, "libespeak-ng.so")))
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), NEVER_EXIT)
    if rate <= 0:
        sys.exit(f"espeak-ng finds no data in {folder}")
    spoken = bytearray()

    def take(samples: "ctypes._Pointer[ctypes.c_short]", number: int, _events: int) -> int:
        if samples and number > 0:
            spoken.extend(ctypes.string_at(samples, 2 * number))
        return 0

    callback = Callback(take)  # kept alive by its name
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice!r}")
    espeak.espeak_SetParameter(RATE, words_a_minute, 0)
    data = text.encode()
    if espeak.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, UTF8, None, None) != 0:
        sys.exit("espeak-ng can't say it")
    espeak.espeak_Synchronize()
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(spoken))
    return file.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(say(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.stdin.buffer.read().decode()))
