/** min(max(x, low), high), element by element; low = 0, high = 6 is ReLU6. The gradient is 0 at the borders.
 *  HEED_ERR_LIMIT unless low < high. */
HEED_API heed_value heed_hardtanh(heed_builder *b, heed_value x, double low, double high);
