"""What a server loads: the default model, others, and the variants and adapters made from them."""
