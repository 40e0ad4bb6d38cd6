# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What benchmarks with hidden labels take: writing it, and checking it against their rules."""
