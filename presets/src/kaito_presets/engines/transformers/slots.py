"""The keys and values of all running answers, in one batch that answers join and leave at any token.

One buffer per layer, (rows, heads, columns, head size). All rows end at the same column, `now`: the next token of
every row is written there, and shorter rows have unused columns before their first token, which the attention mask
hides. A row that leaves is replaced by the last one; a row that joins is copied in front of `now`. So a step of n
answers is one call of the model without copying, whatever joined or left before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

#: Buffers grow by half of what they hold, and at least by this many columns.
SPARE_COLUMNS = 64
#: Smaller buffers are not worth giving back.
SMALL_COLUMNS = 1024


@dataclass(slots=True)
class _Window:
    """The part of the buffers in use: rows [0, rows), columns [start, now)."""

    rows: int = 0
    start: int = 0
    now: int = 0

    @property
    def width(self) -> int:
        return self.now - self.start


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc] # the library is not installed where types are checked
    is_sliding = False  # every token is kept; the model's own mask hides what is out of a sliding window

    def __init__(self, window: _Window, keys: Any, values: Any) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self._window = window
        self.is_initialized = True

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Nothing: the buffers were made when the first row joined."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Writes the new token's states; returns those of all tokens, as views."""
        window = self._window
        self.keys[: window.rows, :, window.now] = key_states[:, :, 0]
        self.values[: window.rows, :, window.now] = value_states[:, :, 0]
        columns = slice(window.start, window.now + 1)
        return self.keys[: window.rows, :, columns], self.values[: window.rows, :, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._window.width + query_length, 0

    def get_seq_length(self) -> int:
        return self._window.width

    def get_max_length(self) -> int:
        return -1


class Slots:
    """`lengths[i]` is the number of tokens that row i holds."""

    def __init__(self, max_rows: int, whole_mask: bool) -> None:
        """`whole_mask`: steps give the mask as attention uses it, see `Loaded.takes_whole_mask`."""
        self._max_rows = max_rows
        self._whole_mask = whole_mask
        self._window = _Window()
        self._layers: list[_SlotLayer] = []
        self.lengths: list[int] = []
        self.cache: Any = None

    def join(self, prefilled: Any, lengths: Sequence[int]) -> None:
        """Adds the rows of a cache in which every row ends at the last column; row j holds lengths[j] tokens."""
        window, longest = self._window, max(lengths)
        rows = window.rows + len(lengths)
        if self._layers and not window.rows and longest + SPARE_COLUMNS <= self._layers[0].keys.shape[-2]:
            window.start = window.now = longest
        if not self._layers or rows > self._layers[0].keys.shape[0] or longest > window.now:
            self._arrange(prefilled, rows, max(window.width, longest))
        for layer, source in zip(self._layers, prefilled.layers, strict=True):
            columns = source.keys.shape[-2]
            for row, length in enumerate(lengths, window.rows):
                took = slice(columns - length, columns)
                put = slice(window.now - length, window.now)
                layer.keys[row, :, put] = source.keys[row - window.rows, :, took]
                layer.values[row, :, put] = source.values[row - window.rows, :, took]
        window.rows = rows
        self.lengths += lengths
        window.start = window.now - max(self.lengths)

    def leave(self, row: int) -> None:
        """Removes a row; the last one takes its place."""
        window = self._window
        last = window.rows - 1
        if row != last:
            columns = slice(window.now - self.lengths[last], window.now)
            for layer in self._layers:
                layer.keys[row, :, columns] = layer.keys[last, :, columns]
                layer.values[row, :, columns] = layer.values[last, :, columns]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        window.rows = last
        if not last:
            self.clear()
            return
        window.start = window.now - max(self.lengths)
        capacity = self._layers[0].keys.shape[-2]
        if capacity > SMALL_COLUMNS and window.width * 4 < capacity:
            self._arrange(self.cache, window.rows, window.width)

    def clear(self) -> None:
        """Forgets every row. Buffers that are worth it are given back."""
        self.lengths.clear()
        self._window.rows = self._window.start = self._window.now = 0
        if self._layers and self._layers[0].keys.shape[-2] > SMALL_COLUMNS:
            self._layers, self.cache = [], None

    def next_step(self, device: Any) -> dict[str, Any]:
        """Arguments of the model for one more token of each row. Call `advance` after it."""
        window = self._window
        if window.now == self._layers[0].keys.shape[-2]:
            self._arrange(self.cache, window.rows, window.width)
        lengths = torch.tensor(self.lengths, device=device).unsqueeze(-1)
        used = torch.arange(window.width + 1, device=device) >= window.width - lengths
        # Where all columns are used, the library leaves the mask out.
        whole = self._whole_mask and min(self.lengths) < window.width
        return {
            "attention_mask": used[:, None, None, :] if whole else used.long(),
            "position_ids": lengths,
            "past_key_values": self.cache,
        }

    def advance(self) -> None:
        """The model has written a token into every row."""
        self._window.now += 1
        self.lengths = [length + 1 for length in self.lengths]

    def _arrange(self, like: Any, rows: int, width: int) -> None:
        """Makes buffers with room for `rows` and `width` columns, and some more; rows end at column `width` then."""
        window = self._window
        have = min(self._max_rows, 1 << (rows - 1).bit_length())
        capacity = width + max(SPARE_COLUMNS, width // 2)
        old: list[_SlotLayer | None] = [*self._layers] or [None] * len(like.layers)
        self._layers = []
        layers = []
        for index, (source, layer) in enumerate(zip(like.layers, old, strict=True)):
            pair = []
            for name in ("keys", "values"):
                states = getattr(source, name)
                # Zeros, never uninitialised memory: what the mask hides is multiplied by 0, and 0·NaN is NaN.
                buffer = states.new_zeros((have, states.shape[1], capacity, states.shape[3]))
                if layer is not None and window.rows:
                    kept = getattr(layer, name)[: window.rows, :, window.start : window.now]
                    buffer[: window.rows, :, width - window.width : width] = kept
                pair.append(buffer)
            if layer is not None:  # its memory is free before the next layer's is taken
                layer.keys = layer.values = None
                old[index] = None
            layers.append(_SlotLayer(window, *pair))
        window.start, window.now = width - window.width, width
        self._layers = layers
        self.cache = Cache(layers=layers)
